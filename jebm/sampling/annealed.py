"""Annealed importance sampling of log Z = log E_{N(0, I)}[exp tilt], with lower and upper bounds.

The path is geometric: π_β(ε) ∝ exp(β f(ε)) p_0(ε), from the base p_0 of the prior at β = 0 to its density at β = 1. The
base is N(0, I), where f is the tilt, or the density that the energy f of the prior tilts, such as a mixture. The
transitions are adjusted Crank–Nicolson Langevin steps, which leave every π_β invariant and are reversible.
References: Neal, "Annealed importance sampling", 2001; Grosse, Ancha and Roy, "Measuring the reliability of MCMC
inference with bidirectional Monte Carlo", NeurIPS 2016 (arXiv 1511.02543 for the bounds).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from jebm.models.priors.base import Prior
from jebm.models.priors.ebm import JointPrior
from jebm.sampling.closed_form.gradients import prior_target
from jebm.sampling.partition import LogPartition, log_mean_weight
from jebm.sampling.pcnl import CrankNicolsonLangevin
from jebm.sampling.target import State, Target


class Annealing(NamedTuple):
    """The result of annealing a population of chains in one direction."""

    log_weights: torch.Tensor
    """(chains,), nats: E[exp] is Z for a forward run and 1/Z for a reverse one."""
    acceptance: float
    """Acceptance rate over all proposals."""


def inverse_temperatures(steps: int) -> torch.Tensor:
    """β_0 = 0 … β_steps = 1, float64, evenly spaced in √β, so that steps are smallest at the end of the base."""
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64).square()


def base_draws(prior: Prior, dimensions: int, chains: int, rng: torch.Generator) -> torch.Tensor:
    """Exact draws from the base of a prior, (chains, dimensions), where a forward run starts."""
    if _tilts_normal(prior):
        return torch.randn(chains, dimensions, generator=rng, device=rng.device)
    return prior.base.sample(chains, rng)


def _tilts_normal(prior: Prior) -> bool:
    return not isinstance(prior, JointPrior) or prior.tilts_normal


def anneal_forward(
    prior: Prior,
    start: torch.Tensor,
    betas: torch.Tensor,
    kernel: CrankNicolsonLangevin,
    rng: torch.Generator,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Annealing:
    """Anneal draws ``start`` from the base, (chains, dimensions), to the density of the prior.

    The expectation of log mean w is a lower bound of log Z (Jensen's inequality), which is tighter with more
    temperatures.
    """
    return _anneal(prior, start, betas, kernel, rng, progress)


def anneal_reverse(
    prior: Prior,
    start: torch.Tensor,
    betas: torch.Tensor,
    kernel: CrankNicolsonLangevin,
    rng: torch.Generator,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Annealing:
    """Anneal draws ``start`` from the density of the prior, (chains, dimensions), back to its base.

    The expectation of −log mean w is an upper bound of log Z, but **only if the start is exact**. Draws that miss a
    part of the density bias the estimate downwards, which this function can't detect. For energies there are no exact
    draws; importance resampling with a good effective sample size is the best substitute.
    """
    return _anneal(prior, start, betas.flip(0), kernel, rng, progress)


@torch.no_grad()
def _anneal(prior, start, betas, kernel, rng, progress) -> Annealing:
    """log w = Σ_t (β_t − β_{t−1}) f(x_{t−1}) along ``betas``; x_t by a transition that leaves π_{β_t} invariant."""
    if not kernel.adjusted:
        raise ValueError("annealing needs an adjusted kernel: its transitions must leave each density invariant")
    path = TiltOfNormal(prior, kernel, start) if _tilts_normal(prior) else TiltOfBase(prior, kernel, start)
    log_w, accepted = torch.zeros(len(start), dtype=torch.float64, device=start.device), 0.0
    pairs = list(zip(betas[:-1].tolist(), betas[1:].tolist(), strict=True))
    for step, (before, beta) in enumerate(pairs, 1):
        log_w += (beta - before) * path.energy().double()
        if step == len(pairs):
            break  # a transition at the last temperature does not change the weights
        moved = path.step(beta, rng)
        accepted += float(moved.float().mean())
        progress("temperatures", step, len(pairs))
    return Annealing(log_w, accepted / max(len(pairs) - 1, 1))


class TiltOfNormal:
    """Chains on π_β ∝ exp(β tilt) N(0, I). The state holds the tilt and its gradient at β = 1; at β they are multiplied
    by β, so that each step needs one gradient."""

    def __init__(self, prior: Prior, kernel: CrankNicolsonLangevin, start: torch.Tensor):
        self.kernel, self.target = kernel, prior_target(prior, "closed-form")
        self.state = State(start, *self.target.tilt_and_gradient(start))

    def energy(self) -> torch.Tensor:
        """f at the present state, (chains,)."""
        return self.state.value

    def step(self, beta: float, rng: torch.Generator) -> torch.Tensor:
        """One transition that leaves π_β invariant, 0 < β ≤ 1; which chains moved."""
        target, state = self.target, self.state
        closed_form = target.closed_form and (lambda x, _: tuple(beta * part for part in target.closed_form(x, True)))
        tempered = Target(lambda x: beta * target.tilt(x), closed_form=closed_form)
        warm = State(state.x, beta * state.value, beta * state.gradient)
        new, moved = self.kernel.step(tempered, warm, rng)
        self.state = State(new.x, new.value / beta, new.gradient / beta)
        return moved


class TiltOfBase:
    """Chains on π_β ∝ exp(β f) p_0 for another base than N(0, I)."""

    def __init__(self, prior: JointPrior, kernel: CrankNicolsonLangevin, start: torch.Tensor):
        self.prior, self.kernel, self.x = prior, kernel, start

    def energy(self, x: torch.Tensor | None = None) -> torch.Tensor:
        """f at the present state, (chains,)."""
        return self.prior.energy(self.prior.hierarchy.top_down_flat(self.x if x is None else x))

    def step(self, beta: float, rng: torch.Generator) -> torch.Tensor:
        """One transition that leaves π_β invariant; which chains moved."""
        tempered = Target(lambda x: beta * self.energy(x) + self.prior.base.tilt(x))
        new, moved = self.kernel.step(tempered, self.kernel.evaluate(tempered, self.x), rng)
        self.x = new.x
        return moved


def lower_bound(forward: Annealing) -> LogPartition:
    """log mean w of a forward run, whose expectation is a lower bound of log Z."""
    return log_mean_weight(forward.log_weights)


def upper_bound(reverse: Annealing) -> LogPartition:
    """An estimate whose expectation is an upper bound of log Z, under the condition of :func:`anneal_reverse`."""
    inverse = log_mean_weight(reverse.log_weights)
    return inverse._replace(value=-inverse.value)
