"""Langevin dynamics on any log density: unadjusted, as in the paper, or Metropolis-adjusted (MALA)."""

from __future__ import annotations

import torch

from jebm.config.types import Positive
from jebm.sampling.kernel import Kernel
from jebm.sampling.target import State, Target


class Langevin(Kernel):
    """x' = x + s²/2 ∇log p(x) + s ξ (arXiv 2306.06323, eq. 12, where s² = 2·step).

    Args:
        step_size: s, a standard deviation. Without adjustment the stationary variance on N(0, 1) is 1/(1 − s²/4).
        adjusted: whether a Metropolis–Hastings test makes the target invariant.
    """

    def __init__(self, *, step_size: Positive, adjusted: bool = False):
        super().__init__(step_size, adjusted)

    def evaluate(self, target: Target, x: torch.Tensor) -> State:
        return State(x, *target.log_prob_and_gradient(x))

    def gradient(self, target: Target, x: torch.Tensor) -> torch.Tensor:
        return target.gradient(x)

    def propose_mean(self, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return x + 0.5 * self.step_size**2 * gradient

    def variance_on_normal(self, steps: int) -> float:
        """Without the test v' = (1 − s²/2)² v + s², starting from v = 1; the limit is 1/(1 − s²/4)."""
        if self.adjusted:
            return 1.0
        variance = 1.0
        for _ in range(steps):
            variance = (1 - self.step_size**2 / 2) ** 2 * variance + self.step_size**2
        return variance

    def log_ratio(self, old: State, new: State) -> torch.Tensor:
        backward = (old.x - self.propose_mean(new.x, new.gradient)).square().sum(1)
        forward = (new.x - self.propose_mean(old.x, old.gradient)).square().sum(1)
        return new.value - old.value - (backward - forward) / (2 * self.step_size**2)
