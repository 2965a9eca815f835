"""Transition kernels: one step of a population of chains, and the Metropolis test that they share."""

import math
from abc import ABC, abstractmethod

import torch

from jebm.sampling.target import State, Target


class Kernel(ABC):
    """One transition. ``step_size`` is a standard deviation: the noise of a step is N(0, step_size²)."""

    whitened_only = False
    """Whether the density must be one in whitened space, with N(0, I) as a factor."""
    largest_step_size = math.inf
    """Where an adaptation stops."""

    def __init__(self, step_size: float, adjusted: bool):
        self.step_size, self.adjusted = step_size, adjusted

    def check(self, target: Target) -> None:
        """Refuse a target that this kernel can't sample (ValueError)."""

    @abstractmethod
    def evaluate(self, target: Target, x: torch.Tensor) -> State:
        """The state at x, with the value and gradient that this kernel works with."""

    @abstractmethod
    def propose_mean(self, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Mean of the Gaussian proposal from each x, where the gradient is; its standard deviation is ``step_size``."""

    @abstractmethod
    def log_ratio(self, old: State, new: State) -> torch.Tensor:
        """log π(new) q(new → old) − log π(old) q(old → new), (batch,)."""

    def variance_on_normal(self, steps: int) -> float:
        """Variance of a coordinate after ``steps`` on N(0, 1), from N(0, 1): 1 for kernels that leave it invariant."""
        return 1.0

    @abstractmethod
    def gradient(self, target: Target, x: torch.Tensor) -> torch.Tensor:
        """The gradient alone of what :meth:`evaluate` evaluates, like x."""

    def move(self, target: Target, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Where an unadjusted step leads from x; like :meth:`step` without any value of the density."""
        return self.propose_mean(x, self.gradient(target, x)).add_(noise, alpha=self.step_size)

    def step(self, target: Target, state: State, rng: torch.Generator) -> tuple[State, torch.Tensor]:
        """The next state and which proposals were accepted, (batch,) bool.

        Without the test all are; with it, a proposal that is not finite is rejected.
        """
        noise = torch.randn(state.x.shape, generator=rng, device=state.x.device, dtype=state.x.dtype)
        new = self.evaluate(target, self.propose_mean(state.x, state.gradient) + self.step_size * noise)
        if not self.adjusted:
            return new, torch.ones(len(noise), dtype=torch.bool, device=noise.device)
        uniform = torch.rand(len(noise), generator=rng, device=noise.device, dtype=noise.dtype)
        # NaN compares false; an infinite density would be accepted for ever.
        accepted = (torch.log(uniform) < self.log_ratio(state, new)) & torch.isfinite(new.value)
        return new.where(accepted, state), accepted
