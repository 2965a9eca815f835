"""Adaptation of the step size of a Metropolis-adjusted kernel to a target acceptance rate.

The Robbins–Monro recursion on the logarithm: log s' = log s + t^(−0.6) (a_t − a*) after the t-th run of the chain, with
acceptance rate a_t. The gain decreases slowly enough to reach any step size, and fast enough to converge (Andrieu and
Thoms, "A tutorial on adaptive MCMC", 2008, section 4.2.2). A chain whose step size still adapts has no invariant
density, so adaptation ends after a given number of runs.
"""

import math
from typing import Any

import torch

from jebm.config.components import build
from jebm.sampling.kernel import Kernel

DECAY = 0.6
"""Exponent of the gain; the recursion converges for values between 1/2 and 1."""


class AdaptiveKernel:
    """A kernel whose step size is adapted during the first ``runs`` runs of a chain.

    Args:
        block: the block of parameters of the kernel, with the initial step size, a standard deviation.
        target_acceptance: the target acceptance rate a*.
        runs: number of runs that adapt the step size; 0 for none.
    """

    def __init__(self, block: Any, target_acceptance: float = 0.6, runs: int = 0):
        self.block, self.target_acceptance, self.runs = block, target_acceptance, runs
        self.done = 0
        self.kernel: Kernel = build("kernel", block)

    @property
    def adapts(self) -> bool:
        """Whether the step size is adapted, now or in an earlier run."""
        return self.runs > 0

    @property
    def step_size(self) -> float:
        return self.kernel.step_size

    def observe(self, acceptance: torch.Tensor) -> None:
        """Adapt the step size to the acceptance rate of one run, a scalar."""
        if self.done >= self.runs:
            return
        self.done += 1
        change = self.done**-DECAY * (float(acceptance) - self.target_acceptance)
        self._use(min(self.step_size * math.exp(change), self.kernel.largest_step_size))

    def _use(self, step_size: float) -> None:
        self.kernel = build("kernel", self.block.model_copy(update={"step_size": step_size}))

    def state_dict(self) -> dict:
        """The state of the adaptation, for resuming an interrupted training run."""
        return {"done": self.done, "step_size": self.step_size}

    def load_state_dict(self, state: dict) -> None:
        self.done = state["done"]
        self._use(state["step_size"])
