"""Preconditioned Crank–Nicolson Langevin dynamics for tilts of N(0, I).

If the tilt is zero, it leaves N(0, I) invariant for every step size, with and without adjustment (Cotter, Roberts,
Stuart and White, "MCMC methods for functions", 2013).
"""

from __future__ import annotations

import math

import torch

from jebm.config.types import Annotated, Field, Positive
from jebm.sampling.kernel import Kernel
from jebm.sampling.target import State, Target


class CrankNicolsonLangevin(Kernel):
    """ε' = a ε + (1 − a) ∇tilt(ε) + s ξ with a = √(1 − s²).

    Args:
        step_size: s, a standard deviation below 1.
        adjusted: whether a Metropolis–Hastings test makes the tilted density invariant.
    """

    whitened_only = True
    largest_step_size = 0.999

    def __init__(self, *, step_size: Annotated[Positive, Field(lt=1)], adjusted: bool = True):
        super().__init__(step_size, adjusted)
        self.contraction = math.sqrt(1 - step_size**2)

    def check(self, target: Target) -> None:
        if not target.gaussian_base:
            raise ValueError("the kernel pcnl samples only tilts of N(0, I): use it in whitened space")

    def evaluate(self, target: Target, x: torch.Tensor) -> State:
        return State(x, *target.tilt_and_gradient(x))

    def gradient(self, target: Target, x: torch.Tensor) -> torch.Tensor:
        return target.tilt_gradient(x)

    def propose_mean(self, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return self.contraction * x + (1 - self.contraction) * gradient

    def log_ratio(self, old: State, new: State) -> torch.Tensor:
        backward = (old.x - self.propose_mean(new.x, new.gradient)).square().sum(1)
        forward = (new.x - self.propose_mean(old.x, old.gradient)).square().sum(1)
        base = 0.5 * (old.x.square().sum(1) - new.x.square().sum(1))
        return new.value - old.value + base - (backward - forward) / (2 * self.step_size**2)
