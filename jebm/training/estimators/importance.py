"""Self-normalised importance sampling of the gradient of log Z."""

from __future__ import annotations

import torch

from jebm.config.types import Count, Fraction, NonNegative
from jebm.sampling.partition import systematic_resampling
from jebm.sampling.proposal import Proposal
from jebm.training.estimators.base import Estimate, Estimator, effective_samples, equal

WINDOW = 50
"""Number of training steps over which the effective sample size is averaged."""


class Importance(Estimator):
    """Fresh draws from the prior's defensive proposal q, with weights in proportion to exp(f) p_0 / q.

    This is the gradient of the log of the importance-sampling estimate of Z. Its bias is of the order of 1 over the
    effective sample size. It needs no chain, so it can't miss a mode that the proposal covers; but the effective sample
    size falls with the dimension and with the distance between proposal and prior.

    Args:
        pool: number of draws per training step, on each device.
        share: share of N(0, I) in the proposal; 1 is N(0, I) alone.
        min_effective: training stops as diverged if the effective sample size, averaged over about the last 50 training
            steps, falls below this number. In a single step it may be much lower.
        gradient_draws: take the gradient at so many draws only, resampled from the pool by their weights. Its
            expectation is the same, and a step costs half as much or less, because most of the pool has little weight.
            None: at the whole pool.
    """

    def __init__(
        self,
        prior,
        *,
        pool: Count,
        share: Fraction = 0.2,
        min_effective: NonNegative = 5.0,
        gradient_draws: Count | None = None,
    ):
        super().__init__(prior)
        self.pool, self.share, self.gradient_draws = pool, share, gradient_draws
        self.watched = ("effective_samples", min_effective)
        self.average: torch.Tensor | None = None

    def __call__(self, positive: torch.Tensor, rng: torch.Generator) -> Estimate:
        proposal = Proposal(self.prior, positive.shape[1], self.share)
        with torch.no_grad():
            eps = proposal.sample(self.pool, rng)
            correction = proposal.base_ratio(self.prior.base, eps)
        with torch.set_grad_enabled(self.gradient_draws is None):
            f = self.energy(eps)
        weights = torch.softmax(f.detach() + correction, 0)
        now = effective_samples(weights)
        if self.gradient_draws is not None:
            f = self.energy(systematic_resampling(eps, weights.log(), self.gradient_draws, rng))
            weights = equal(f)
        self.average = now if self.average is None else torch.lerp(self.average, now, 1 / WINDOW)
        return Estimate(f, weights, {"effective_samples": self.average})

    def state_dict(self) -> dict:
        return {"average": self.average}

    def load_state_dict(self, state: dict) -> None:
        self.average = state["average"]
