"""Importance sampling from a defensive proposal: the partition function, and draws from the tilted density by
resampling."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch

from jebm.errors import DivergedError
from jebm.models.priors.base import Prior
from jebm.sampling.proposal import SHARE, Proposal


class LogPartition(NamedTuple):
    """An estimate of log Z."""

    value: float
    """log Z = log E_{N(0, I)}[exp tilt], nats."""
    standard_error: float
    """By the delta method, nats; 0 if Z = 1 exactly. It is unreliable if the effective sample size is small."""
    effective_fraction: float
    """Effective sample size (Σw)² / Σw², divided by the number of draws."""


@torch.no_grad()
def tilts(prior: Prior, eps: torch.Tensor, batch_size: int = 10_000) -> torch.Tensor:
    """tilt(ε) of flat ε, (count,), nats, computed in batches."""
    return torch.cat([prior.tilt(batch) for batch in eps.split(batch_size)])


@torch.no_grad()
def proposal_weights(prior: Prior, proposal: Proposal, eps: torch.Tensor, batch_size: int = 10_000) -> torch.Tensor:
    """Log weights tilt(ε) + log N(ε; 0, I) − log q(ε) of flat ε, (count,), nats, computed in batches."""
    return torch.cat([prior.tilt(batch) - proposal.log_ratio(batch) for batch in eps.split(batch_size)])


def effective_fraction(log_weights: torch.Tensor) -> float:
    """(Σw)² / (n Σw²), given log w, (n,)."""
    log_w = log_weights.double()
    return math.exp(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0)) / len(log_w)


def log_mean_weight(log_weights: torch.Tensor) -> LogPartition:
    """log mean w of log w, (n,), with its standard error by the delta method and the effective fraction."""
    log_w, n = log_weights.double(), len(log_weights)
    fraction = effective_fraction(log_w)
    # Var(mean w) / mean(w)² = (1/fraction − 1) / n.
    error = math.sqrt(max(1 / fraction - 1, 0.0) / n)
    return LogPartition(float(torch.logsumexp(log_w, 0)) - math.log(n), error, fraction)


def estimates_agree(estimates: Sequence[LogPartition], largest_error: float = 0.1, largest_ratio: float = 3.0) -> bool:
    """Whether estimates of log Z can be relied on: each has a standard error of at most ``largest_error`` nats, and any
    two differ by at most ``largest_ratio`` times the standard error of their difference, or 0.05 nats."""
    if any(not math.isfinite(e.value) or e.standard_error > largest_error for e in estimates):
        return False
    return all(
        abs(a.value - b.value) <= max(largest_ratio * math.hypot(a.standard_error, b.standard_error), 0.05)
        for a, b in combinations(estimates, 2)
    )


def estimate_log_partition(
    prior: Prior, dimensions: int, draws: int, rng: torch.Generator, share: float = SHARE
) -> LogPartition:
    """log Z by importance sampling from the prior's defensive proposal. It is 0, without draws, if the prior is
    normalised.

    Args:
        share: share of N(0, I) in the proposal; 1 is N(0, I) alone.
    """
    if prior.normalised:
        return LogPartition(0.0, 0.0, 1.0)
    proposal = Proposal(prior, dimensions, share)
    return log_mean_weight(proposal_weights(prior, proposal, proposal.sample(draws, rng)))


def resample(
    prior: Prior, dimensions: int, count: int, pool: int, rng: torch.Generator, share: float = SHARE
) -> tuple[torch.Tensor, float]:
    """``count`` draws from p(ε) ∝ exp(tilt) N(0, I), resampled from ``pool`` draws of the prior's defensive proposal.

    Returns the draws, (count, dimensions), and the effective fraction of the weights.

    Raises:
        DivergedError: the tilt is NaN or +∞ on a draw, or −∞ on all draws.
    """
    proposal = Proposal(prior, dimensions, share)
    eps = proposal.sample(pool, rng)
    log_w = proposal_weights(prior, proposal, eps)
    return systematic_resampling(eps, log_w, count, rng), effective_fraction(log_w)


def systematic_resampling(
    eps: torch.Tensor, log_weights: torch.Tensor, count: int, rng: torch.Generator
) -> torch.Tensor:
    """Systematic resampling: ``count`` = n rows of ε in random order. A row of weight w occurs ⌊n w⌋ or ⌈n w⌉ times.

    Raises:
        DivergedError: a weight is NaN or +∞, or all weights are 0.
    """
    log_w, pool = log_weights.double(), len(eps)
    if (bad := int((torch.isnan(log_w) | (log_w == math.inf)).sum())) or not torch.isfinite(log_w).any():
        raise DivergedError(f"importance resampling: the energy is not finite on {bad or pool} of {pool} draws")
    # On the CPU, because PyTorch has no deterministic cumulative sum on a GPU.
    edges = torch.cumsum(torch.softmax(log_w, 0).cpu(), 0).to(eps.device)
    offset = torch.rand((), generator=rng, device=eps.device, dtype=torch.float64)
    points = (torch.arange(count, device=eps.device, dtype=torch.float64) + offset) / count
    index = torch.searchsorted(edges, points).clamp_(max=pool - 1)
    return eps[index[torch.randperm(count, generator=rng, device=eps.device)]]
