"""Transition kernels: one step of a population of chains, with an optional Metropolis–Hastings test."""

import math
from abc import ABC, abstractmethod

import torch

from jebm.sampling.target import State, Target


class Kernel(ABC):
    """One transition. ``step_size`` is the standard deviation of the proposal's noise; ``adjusted`` adds the test."""

    whitened_only = False
    """Whether the density must be one in whitened space, with N(0, I) as a factor."""
    largest_step_size = math.inf
    """The upper bound for an adaptation of the step size."""

    def __init__(self, step_size: float, adjusted: bool):
        self.step_size, self.adjusted = step_size, adjusted

    def check(self, target: Target) -> None:
        """Refuse, by a ValueError, a target that this kernel can't sample."""

    @abstractmethod
    def evaluate(self, target: Target, x: torch.Tensor) -> State:
        """The state at x, with the value and the gradient that this kernel uses: of the log density or of the tilt."""

    @abstractmethod
    def propose_mean(self, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The mean of the Gaussian proposal, given x and the gradient there."""

    @abstractmethod
    def log_ratio(self, old: State, new: State) -> torch.Tensor:
        """log π(new) q(new → old) − log π(old) q(old → new), (batch,), the log Metropolis–Hastings ratio."""

    def variance_on_normal(self, steps: int) -> float:
        """Variance after ``steps`` steps on N(0, 1), started from N(0, 1); 1 if the kernel leaves N(0, 1) invariant."""
        return 1.0

    @abstractmethod
    def gradient(self, target: Target, x: torch.Tensor) -> torch.Tensor:
        """The gradient that :meth:`evaluate` computes, without the value; of the shape of x."""

    def move(self, target: Target, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The next state of an unadjusted step from x with given noise, without the value of the density."""
        return self.propose_mean(x, self.gradient(target, x)).add_(noise, alpha=self.step_size)

    def step(self, target: Target, state: State, rng: torch.Generator) -> tuple[State, torch.Tensor]:
        """The next state, and a mask (batch,) of the accepted proposals.

        Without the test all proposals are accepted. With it, proposals with a density that is not finite are rejected.
        """
        noise = torch.randn(state.x.shape, generator=rng, device=state.x.device, dtype=state.x.dtype)
        new = self.evaluate(target, self.propose_mean(state.x, state.gradient) + self.step_size * noise)
        if not self.adjusted:
            return new, torch.ones(len(noise), dtype=torch.bool, device=noise.device)
        uniform = torch.rand(len(noise), generator=rng, device=noise.device, dtype=noise.dtype)
        # NaN compares false. A state of infinite density would be accepted and never left.
        accepted = (torch.log(uniform) < self.log_ratio(state, new)) & torch.isfinite(new.value)
        return new.where(accepted, state), accepted
