"""Annealed importance sampling of log Z = log E_{N(0, I)}[exp tilt], with lower and upper bounds.

The path is geometric: π_β(ε) ∝ exp(β tilt(ε)) N(ε; 0, I), from the Gaussian at β = 0 to the tilted density at β = 1,
and the transitions are adjusted Crank–Nicolson Langevin steps, which leave every π_β invariant and are reversible.
References: Neal, "Annealed importance sampling", 2001; Grosse, Ancha and Roy, "Measuring the reliability of MCMC
inference with bidirectional Monte Carlo", NeurIPS 2016 (arXiv 1511.02543 for the bounds).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from jebm.models.priors.base import Prior
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
    """β_0 = 0 … β_steps = 1, float64, evenly spaced in √β, so that steps are smallest at the Gaussian end."""
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64).square()


def anneal_forward(
    prior: Prior,
    start: torch.Tensor,
    betas: torch.Tensor,
    kernel: CrankNicolsonLangevin,
    rng: torch.Generator,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Annealing:
    """Anneal draws ``start`` from N(0, I), (chains, dimensions), to the tilted density.

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
    """Anneal draws ``start`` from the tilted density, (chains, dimensions), back to N(0, I).

    The expectation of −log mean w is an upper bound of log Z, but **only if the start is exact**. Draws that miss a
    part of the density bias the estimate downwards, which this function can't detect. For energies there are no exact
    draws; importance resampling with a good effective sample size is the best substitute.
    """
    return _anneal(prior, start, betas.flip(0), kernel, rng, progress)


@torch.no_grad()
def _anneal(prior, start, betas, kernel, rng, progress) -> Annealing:
    """log w = Σ_t (β_t − β_{t−1}) tilt(x_{t−1}) along ``betas``; x_t by a transition that leaves π_{β_t} invariant."""
    if not kernel.adjusted:
        raise ValueError("annealing needs an adjusted kernel: its transitions must leave each density invariant")
    # The state holds the tilt and its gradient at β = 1; at β they are multiplied by β.
    target = prior_target(prior, "closed-form")
    state = State(start, *target.tilt_and_gradient(start))
    log_w, accepted = torch.zeros(len(start), dtype=torch.float64, device=start.device), 0.0
    pairs = list(zip(betas[:-1].tolist(), betas[1:].tolist(), strict=True))
    for step, (before, beta) in enumerate(pairs, 1):
        log_w += (beta - before) * state.value.double()
        if step == len(pairs):
            break  # a transition at the last temperature does not change the weights
        state, moved = _tempered_step(kernel, target, state, beta, rng)
        accepted += float(moved.float().mean())
        progress("temperatures", step, len(pairs))
    return Annealing(log_w, accepted / max(len(pairs) - 1, 1))


def _tempered_step(kernel, target, state, beta, rng) -> tuple[State, torch.Tensor]:
    """One transition that leaves π_β invariant, 0 < β ≤ 1. Both states hold the tilt and its gradient at β = 1."""
    closed_form = target.closed_form and (lambda x, _: tuple(beta * part for part in target.closed_form(x, True)))
    tempered = Target(lambda x: beta * target.tilt(x), closed_form=closed_form)
    warm = State(state.x, beta * state.value, beta * state.gradient)
    new, moved = kernel.step(tempered, warm, rng)
    return State(new.x, new.value / beta, new.gradient / beta), moved


def lower_bound(forward: Annealing) -> LogPartition:
    """log mean w of a forward run, whose expectation is a lower bound of log Z."""
    return log_mean_weight(forward.log_weights)


def upper_bound(reverse: Annealing) -> LogPartition:
    """An estimate whose expectation is an upper bound of log Z, under the condition of :func:`anneal_reverse`."""
    inverse = log_mean_weight(reverse.log_weights)
    return inverse._replace(value=-inverse.value)
