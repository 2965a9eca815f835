"""Chains compared on one prior: which diverge and when, how short runs sample, how long ones mix, and at what cost."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import NamedTuple

import torch

from jebm.config.components import build, build_all
from jebm.config.types import ChainBlocks, ChainStart, Count, KernelBlock, LatentSpace, Natural, Reference, Steps
from jebm.errors import DivergedError
from jebm.evaluations.base import Evaluation, Subject
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import flatten
from jebm.sampling.diagnostics import autocorrelation, autocorrelation_time, r_hat
from jebm.sampling.partition import resample
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import SPACES, Space
from jebm.sampling.target import State

LIMIT = 1e3
"""A chain has left when a coordinate of its state is not finite or exceeds this; latents are of the order of 10."""
LAGS = 200
"""Autocorrelations up to this lag are kept for figures."""


class ChainSetup:
    """One way to sample a prior.

    Args:
        kernel: one transition; every step costs one gradient of the density, with or without the Metropolis test.
        space: ``whitened`` (ε) or ``z``.
        start: N(0, I) in that space, or draws of the generator's own prior; in whitened space the two are the same.
        may_diverge: report chains that leave instead of failing.
    """

    def __init__(
        self,
        *,
        kernel: KernelBlock,
        space: LatentSpace = "whitened",
        start: ChainStart = "generator",
        may_diverge: bool = False,
    ):
        self.kernel, self.space = build("kernel", kernel), SPACES[space]
        self.start, self.may_diverge = start, may_diverge


class Run(NamedTuple):
    """What a population of chains left behind."""

    kept: dict[int, torch.Tensor]
    """Step → states, (chains, dimensions)."""
    left_at: torch.Tensor
    """(chains,): the step after which a chain had left, 0 for one that stayed."""
    acceptance: float
    seconds: float
    """Processor time of all steps."""

    @property
    def left(self) -> float:
        """Share of the chains that left."""
        return float((self.left_at > 0).float().mean())

    @property
    def first_left(self) -> int:
        """The step after which the first one had left."""
        return int(self.left_at[self.left_at > 0].min())

    def whole_until(self, step: int) -> bool:
        """Whether no chain had left by then."""
        return not ((self.left_at > 0) & (self.left_at <= step)).any()


class Chains(Evaluation):
    """Short runs of many chains and long runs of a few, for each setup; its label is the ``set`` of its values.

    FD of short runs is measured along the same chains, at several ``step``s. Of long runs the second half is diagnosed,
    on f and on every latent dimension of z, so that chains in both spaces answer for the same quantities; the worst
    of them is reported. A few long runs share their start's distribution with the short ones: R-hat sees what they
    disagree on, not what all of them miss.

    Args:
        chains: the setups, by label.
        reference: the split that FD compares with.
        count: chains of a short run, and images of every FD.
        steps: after how many steps FD is measured; 0 is the start.
        long_chains, long_steps: size of the long runs; 0 steps for none.
        pool: Gaussian draws from which samples of the density itself are resampled; 0 for none.
    """

    metrics = {
        "left": ("left", -1, 3, "share of the chains with a coordinate that is not finite or exceeds 1000"),
        "left_at": ("first at step", 0, 0, "step after which the first chain had left"),
        "fd_steps": ("FD", -1, 2, "Fréchet distance of the chains' states after k steps (one gradient a step)"),
        "fd_long": ("FD, long runs", -1, 2, "Fréchet distance of states spread over the second half of long runs"),
        "fd_density": ("FD, density", -1, 2, "Fréchet distance of the density's own, importance-resampled samples"),
        "fd_density_ess": ("ESS of these", 0, 0, "effective sample size behind the density's own samples"),
        "r_hat_f": ("R-hat of f", -1, 3, "rank-normalised split R-hat of f over long runs"),
        "autocorrelation_time": ("τ, steps", -1, 1, "integrated autocorrelation time of the slowest latent or f"),
        "autocorrelation_time_f": ("τ of f, steps", -1, 1, "integrated autocorrelation time of f"),
        "ess_per_step": ("ESS a step", 1, 3, "effective samples of the slowest latent or f a step of a chain"),
        "ess_per_second": ("ESS a second", 1, 0, "the same a second of processor time, as it was in this run"),
    }

    def __init__(
        self,
        *,
        chains: ChainBlocks,
        reference: Reference = "test",
        count: Count = 2000,
        steps: Steps = [0, 5, 10, 20, 40, 80, 160],  # noqa: B006
        long_chains: Count = 32,
        long_steps: Natural = 600,
        pool: Natural = 0,
    ):
        self.setups = build_all(chains)
        self.reference, self.count, self.steps = reference, count, steps
        self.long_chains, self.long_steps, self.pool = long_chains, long_steps, pool

    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        arrays, progress = {}, subject.progress()
        fd = record.protocol(
            "fd-chains",
            {**subject.facts(self.reference), "features": subject.space.about, "sample_count": self.count},
        )
        for done, (label, setup) in enumerate(self.setups.items(), 1):
            space = setup.space(subject.hierarchy, subject.prior)
            per_second = self._short(subject, record, label, setup, space, fd)
            if self.long_steps:
                arrays |= self._long(subject, record, label, setup, space, fd, per_second)
            progress("chains", done, len(self.setups))
        if self.pool:
            dimensions, stream = subject.hierarchy.dimensions, subject.stream("density")
            eps, fraction = resample(subject.prior, dimensions, self.count, self.pool, stream)
            record.add("fd_density", subject.frechet(eps, self.reference), self.count, fd)
            record.add("fd_density_ess", fraction * self.pool, self.pool, fd)
        return arrays

    def _short(self, subject, record, label: str, setup: ChainSetup, space: Space, fd: str) -> float:
        """Adds acceptance, divergence and FD; returns how many steps of one chain a second allows."""
        # One stream for all setups: common noise makes their differences clearer than their levels.
        ran = run(setup, space, self.count, self.steps, subject.stream("short"))
        self._check(ran, setup, label, subject.title)
        protocol = record.protocol("chains", {"chains": self.count, "steps": max(self.steps), "limit": LIMIT})
        record.add("left", ran.left, self.count, protocol, set=label)
        if ran.left:
            record.add("left_at", ran.first_left, self.count, protocol, set=label)
        record.add("acceptance", ran.acceptance, self.count, protocol, set=label)
        for k, x in ran.kept.items():
            # FD of those that stayed would flatter a chain that loses its worst.
            if ran.whole_until(k):
                distance = subject.frechet_of(space.top_down(x), self.reference)
                record.add("fd_steps", distance, len(x), fd, set=label, step=k)
        return self.count * max(self.steps) / max(ran.seconds, 1e-9)

    def _long(
        self, subject, record, label: str, setup: ChainSetup, space: Space, fd: str, per_second: float
    ) -> dict[str, torch.Tensor]:
        """Adds R-hat, autocorrelation times and FD of long runs; returns curves for figures. Nothing if chains left."""
        every = range(1, self.long_steps + 1)
        ran = run(setup, space, self.long_chains, every, subject.stream("long"))
        self._check(ran, setup, label, subject.title)
        if ran.left:
            return {}
        draws = trace(space, ran.kept)
        half = draws[len(draws) // 2 :]
        facts = {"chains": self.long_chains, "steps": self.long_steps, "kept": len(half), "of": "f and all of z"}
        protocol, n = record.protocol("long-chains", facts), half.shape[0] * half.shape[1]
        tau, agreement = autocorrelation_time(half), r_hat(half)
        # A chain that never moves has no variance to compare, and no value.
        if torch.isfinite(agreement).all():
            record.add("r_hat", agreement.max(), n, protocol, set=label)
            record.add("r_hat_f", agreement[0], n, protocol, set=label)
        if torch.isfinite(tau).all():
            record.add("autocorrelation_time", tau.max(), n, protocol, set=label)
            record.add("autocorrelation_time_f", tau[0], n, protocol, set=label)
            record.add("ess_per_step", 1 / tau.max(), n, protocol, set=label)
            record.time("ess_per_second", per_second / float(tau.max()), set=label)
        later = torch.stack([ran.kept[k] for k in every[self.long_steps // 2 :]]).flatten(0, 1)
        spread = later[torch.linspace(0, len(later) - 1, self.count).long()]
        record.add("fd_long", subject.frechet_of(space.top_down(spread), self.reference), len(spread), fd, set=label)
        return {f"{label}/{name}": curve for name, curve in curves(draws, int(tau.argmax())).items()}

    @staticmethod
    def _check(ran: Run, setup: ChainSetup, label: str, title: str) -> None:
        if ran.left and not setup.may_diverge:
            raise DivergedError(
                f"{title}: the chain '{label}' diverged: {ran.left:.1%} of {len(ran.left_at)} chains left, the first "
                f"at step {ran.first_left}; lower chains.{label}.kernel.step_size, set its adjusted: true, or set "
                f"chains.{label}.may_diverge: true if it is there to show this"
            )


def run(setup: ChainSetup, space: Space, count: int, steps: Collection[int], generator: torch.Generator) -> Run:
    """Run ``count`` chains of a setup and keep the states after the given steps."""
    start = space.start(setup.start, count, generator)
    wanted, kept = set(steps), {}
    left_at = torch.zeros(count, dtype=torch.int64, device=start.device)

    def watch(step: int, state: State) -> None:
        left_at.add_((has_left(state.x) & (left_at == 0)) * step)
        if step in wanted:
            kept[step] = state.x.detach()

    if 0 in wanted:
        kept[0] = start
    began = time.process_time()
    result = run_chain(setup.kernel, space.target(), start, max(steps), generator, watch)
    return Run(kept, left_at, float(result.acceptance), time.process_time() - began)


def has_left(x: torch.Tensor) -> torch.Tensor:
    """(chains,) bool: a coordinate is not finite, or larger than any latent."""
    return ~(x.abs().amax(1) <= LIMIT)


@torch.no_grad()
def trace(space: Space, kept: dict[int, torch.Tensor]) -> torch.Tensor:
    """f and then all of z along the chains, (steps, chains, 1 + dimensions)."""
    states = torch.stack(list(kept.values()))
    rows = [
        torch.cat([space.tilt(x).unsqueeze(1), flatten(space.top_down(x).z)], 1)
        for x in states.flatten(0, 1).split(10_000)
    ]
    return torch.cat(rows).unflatten(0, states.shape[:2])


def curves(draws: torch.Tensor, slowest: int) -> dict[str, torch.Tensor]:
    """For figures: the autocorrelation by lag of f and of the slowest quantity, (lags, 2), and the worst R-hat of the
    second half of ever longer runs, (windows, 2), with the length of the run in the first column."""
    steps = len(draws)
    windows = [k for k in (20 * 2**i for i in range(30)) if k < steps] + [steps]
    worst = torch.stack([r_hat(draws[k // 2 : k]).max() for k in windows])
    decay = autocorrelation(draws[steps // 2 :])[:LAGS, [0, slowest]]
    return {
        "autocorrelation": decay.float(),
        "r_hat": torch.stack([torch.tensor(windows).to(worst), worst], 1).float(),
    }
