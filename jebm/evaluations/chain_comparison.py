"""Comparison of Markov chains on one prior: which of them diverge and when, how well short runs sample, how long runs
mix, and at what cost."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import torch

from jebm.config.components import build, build_labelled
from jebm.config.types import ChainBlocks, ChainStart, Count, KernelBlock, LatentSpace, Natural, Reference, Steps
from jebm.errors import DivergedError
from jebm.evaluations.base import Evaluation, Subject
from jebm.metrics.frechet import frechet
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import flatten
from jebm.sampling.diagnostics import autocorrelation, autocorrelation_time, r_hat
from jebm.sampling.partition import resample
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import SPACES, Space
from jebm.sampling.target import State

LIMIT = 1e3
"""A chain counts as diverged if a coordinate of its state is not finite or exceeds this; latents are of the order of
10."""
BATCH = 2000
"""Number of images that are inferred at once."""
LAGS = 200
"""Largest lag of the autocorrelations that are saved for figures."""


class ChainSetup:
    """One way to sample from a prior.

    Args:
        kernel: transition kernel of the chain; each step costs one gradient of the density, with or without the
            Metropolis test.
        space: coordinates of the chain, ``whitened`` (ε) or ``z``.
        start: ``normal`` is N(0, I) in these coordinates, ``prior`` the Gaussian prior; in ``whitened`` both are
            the same.
        allow_divergence: report diverged chains instead of failing.
    """

    def __init__(
        self,
        *,
        kernel: KernelBlock,
        space: LatentSpace = "whitened",
        start: ChainStart = "prior",
        allow_divergence: bool = False,
    ):
        self.kernel, self.space = build("kernel", kernel), SPACES[space]
        self.start, self.allow_divergence = start, allow_divergence


class ChainRun(NamedTuple):
    """The result of running several chains in parallel."""

    kept: dict[int, torch.Tensor]
    """Step → states, (chains, dimensions)."""
    left_at: torch.Tensor
    """(chains,): the step after which a chain had diverged, 0 if it did not diverge."""
    acceptance: float
    seconds: float
    """Processor time of all steps."""

    @property
    def left(self) -> float:
        """Fraction of the chains that diverged."""
        return float((self.left_at > 0).float().mean())

    @property
    def first_left(self) -> int:
        """The step after which the first chain had diverged."""
        return int(self.left_at[self.left_at > 0].min())

    def whole_until(self, step: int) -> bool:
        """Whether no chain had diverged up to this step."""
        return not ((self.left_at > 0) & (self.left_at <= step)).any()


class ChainComparison(Evaluation):
    """Short runs of many chains and long runs of a few chains, for each setup. The label of a setup is the ``set`` of
    its values.

    FD of short runs is measured along the same chains, after several numbers of ``step``s. The second half of long runs
    is diagnosed by f and by every latent dimension of z, so that chains in different coordinates are judged by the same
    quantities; the worst one is reported. Short and long runs start from the same distribution. R-hat detects
    disagreement between chains, but not modes that all of them miss.

    Args:
        chains: label → setup of a chain.
        reference: split of the data that FD compares with.
        count: number of chains of a short run, and of images per FD.
        steps: numbers of steps after which FD is measured; 0 is the initial state.
        long_chains: number of chains of a long run.
        long_steps: number of steps of a long run; 0 skips long runs.
        pool: number of draws of the proposal from which samples of the density itself are resampled; 0 skips this.
    """

    metrics = {
        "left": ("diverged", -1, 3, "share of the chains with a coordinate that is not finite or exceeds 1000"),
        "left_at": ("first at step", 0, 0, "step after which the first chain had diverged"),
        "fd_steps": ("FD", -1, 2, "Fréchet distance of the chains' states after k steps (one gradient per step)"),
        "fd_latent": (
            "latent FD",
            -1,
            2,
            "Fréchet distance in ε between the chains' states after k steps and posterior draws of the training images",
        ),
        "fd_long": ("FD, long runs", -1, 2, "Fréchet distance of states spread over the second half of long runs"),
        "fd_density": ("FD, density", -1, 2, "Fréchet distance of the density's own, importance-resampled samples"),
        "fd_density_ess": ("ESS, density", 0, 0, "effective sample size behind the density's own samples"),
        "r_hat_f": ("R-hat of f", -1, 3, "rank-normalised split R-hat of f over long runs"),
        "autocorrelation_time": ("τ, steps", -1, 1, "integrated autocorrelation time of the slowest latent or f"),
        "autocorrelation_time_f": ("τ of f, steps", -1, 1, "integrated autocorrelation time of f"),
        "ess_per_step": ("ESS per step", 1, 3, "effective samples of the slowest latent or f per step of a chain"),
        "ess_per_second": ("ESS per second", 1, 0, "the same per second of processor time, as it was in this run"),
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
        self.setups = build_labelled(chains)
        self.reference, self.count, self.steps = reference, count, steps
        self.long_chains, self.long_steps, self.pool = long_chains, long_steps, pool

    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        arrays, progress = {}, subject.progress()
        fd = record.protocol(
            "fd-chains",
            {**subject.facts(self.reference), "features": subject.space.about, "sample_count": self.count},
        )
        latents = record.protocol("latent-fd", {**subject.facts("train"), "sample_count": self.count})
        aggregate = _aggregate_posterior(subject)
        for done, (label, setup) in enumerate(self.setups.items(), 1):
            space = setup.space(subject.hierarchy, subject.prior)
            per_second, states = self._short(subject, record, label, setup, space, fd)
            for k, x in states.items():
                distance = frechet(_numpy(space.to_noise(x)), aggregate)
                record.add("fd_latent", distance, len(x), latents, set=label, step=k)
            if self.long_steps:
                arrays |= self._long(subject, record, label, setup, space, fd, per_second)
            progress("chains", done, len(self.setups))
        if self.pool:
            dimensions, rng = subject.hierarchy.dimensions, subject.rng("density")
            eps, fraction = resample(subject.prior, dimensions, self.count, self.pool, rng)
            record.add("fd_density", subject.frechet(eps, self.reference), self.count, fd)
            record.add("fd_density_ess", fraction * self.pool, self.pool, fd)
        return arrays

    def _short(
        self, subject, record, label: str, setup: ChainSetup, space: Space, fd: str
    ) -> tuple[float, dict[int, torch.Tensor]]:
        """Add acceptance, divergence and FD of short runs. Returns the number of steps of one chain per second, and the
        states after the numbers of steps before which no chain had diverged."""
        # All setups use the same random numbers, so that their differences are less noisy than their values.
        ran = run(setup, space, self.count, self.steps, subject.rng("short"))
        self._check(ran, setup, label, subject.title)
        protocol = record.protocol("chain-comparison", {"chains": self.count, "steps": max(self.steps), "limit": LIMIT})
        record.add("left", ran.left, self.count, protocol, set=label)
        if ran.left:
            record.add("left_at", ran.first_left, self.count, protocol, set=label)
        record.add("acceptance", ran.acceptance, self.count, protocol, set=label)
        states = {}
        for k, x in ran.kept.items():
            # FD of the remaining chains alone would hide the divergence of the others.
            if ran.whole_until(k):
                distance = subject.frechet_of(space.top_down(x), self.reference)
                record.add("fd_steps", distance, len(x), fd, set=label, step=k)
                states[k] = x
        return self.count * max(self.steps) / max(ran.seconds, 1e-9), states

    def _long(
        self, subject, record, label: str, setup: ChainSetup, space: Space, fd: str, per_second: float
    ) -> dict[str, torch.Tensor]:
        """Add R-hat, autocorrelation times and FD of long runs. Returns curves for figures; nothing if chains
        diverged."""
        every = range(1, self.long_steps + 1)
        ran = run(setup, space, self.long_chains, every, subject.rng("long"))
        self._check(ran, setup, label, subject.title)
        if ran.left:
            return {}
        draws = trace(space, ran.kept)
        half = draws[len(draws) // 2 :]
        facts = {"chains": self.long_chains, "steps": self.long_steps, "kept": len(half), "of": "f and all of z"}
        protocol, n = record.protocol("long-chains", facts), half.shape[0] * half.shape[1]
        tau, agreement = autocorrelation_time(half), r_hat(half)
        # A chain that never moves has no variance, and therefore no value.
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
    def _check(ran: ChainRun, setup: ChainSetup, label: str, title: str) -> None:
        if ran.left and not setup.allow_divergence:
            raise DivergedError(
                f"{title}: the chain '{label}' diverged: {ran.left:.1%} of {len(ran.left_at)} chains left, the first "
                f"at step {ran.first_left}; lower chains.{label}.kernel.step_size, set its adjusted: true, or set "
                f"chains.{label}.allow_divergence: true if it is there to show this"
            )


def run(setup: ChainSetup, space: Space, count: int, steps: Collection[int], rng: torch.Generator) -> ChainRun:
    """Run ``count`` chains of a setup, and store the states after the given steps."""
    start = space.start(setup.start, count, rng)
    wanted, kept = set(steps), {}
    left_at = torch.zeros(count, dtype=torch.int64, device=start.device)

    def watch(step: int, state: State) -> None:
        left_at.add_((has_left(state.x) & (left_at == 0)) * step)
        if step in wanted:
            kept[step] = state.x.detach()

    if 0 in wanted:
        kept[0] = start
    began = time.process_time()
    result = run_chain(setup.kernel, space.target(), start, max(steps), rng, watch)
    return ChainRun(kept, left_at, float(result.acceptance), time.process_time() - began)


@torch.no_grad()
def _aggregate_posterior(subject: Subject) -> np.ndarray:
    """One draw of flat ε from q(ε | x) per training image, (images, dimensions)."""
    rng = subject.rng("aggregate posterior")
    draws = [flatten(subject.hierarchy.infer(x, rng).eps) for x in subject.pixels("train").split(BATCH)]
    return _numpy(torch.cat(draws))


def _numpy(eps: torch.Tensor) -> np.ndarray:
    return eps.detach().double().cpu().numpy()


def has_left(x: torch.Tensor) -> torch.Tensor:
    """(chains,) bool: whether a coordinate is not finite, or larger than latents ever are."""
    return ~(x.abs().amax(1) <= LIMIT)


@torch.no_grad()
def trace(space: Space, kept: dict[int, torch.Tensor]) -> torch.Tensor:
    """f, followed by all of z, along the chains: (steps, chains, 1 + dimensions)."""
    states = torch.stack(list(kept.values()))
    rows = [
        torch.cat([space.tilt(x).unsqueeze(1), flatten(space.top_down(x).z)], 1)
        for x in states.flatten(0, 1).split(10_000)
    ]
    return torch.cat(rows).unflatten(0, states.shape[:2])


def curves(draws: torch.Tensor, slowest: int) -> dict[str, torch.Tensor]:
    """Curves for figures: the autocorrelation by lag of f and of the slowest quantity, (lags, 2); and the largest R-hat
    of the second half of increasingly long runs, (windows, 2), with the length of the run in the first column."""
    steps = len(draws)
    windows = [k for k in (20 * 2**i for i in range(30)) if k < steps] + [steps]
    worst = torch.stack([r_hat(draws[k // 2 : k]).max() for k in windows])
    decay = autocorrelation(draws[steps // 2 :])[:LAGS, [0, slowest]]
    return {
        "autocorrelation": decay.float(),
        "r_hat": torch.stack([torch.tensor(windows).to(worst), worst], 1).float(),
    }
