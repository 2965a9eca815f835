"""The step size of an adjusted kernel, moved until a given share of its proposals is accepted, then fixed.

Robbins and Monro's recursion on the logarithm: log s' = log s + t^(−0.6) (a_t − a*) after the t-th run of the chain,
whose accepted share is a_t. Its gain falls slowly enough to reach any size and fast enough to settle (Andrieu and
Thoms, "A tutorial on adaptive MCMC", 2008, section 4.2.2). A chain that still adapts leaves nothing invariant, so it
stops for good after a given number of runs.
"""

import math
from typing import Any

import torch

from jebm.config.components import build
from jebm.sampling.kernel import Kernel

DECAY = 0.6
"""Exponent of the gain; between 1/2 and 1 for the recursion to settle."""


class AdaptiveKernel:
    """A kernel whose step size follows the acceptance of the first ``runs`` runs of a chain.

    Args:
        block: the kernel's block of parameters; its step size is where the adaptation starts.
        target_acceptance: the share of proposals to be accepted, a*.
        runs: how many runs adapt; 0 leaves the step size alone.
    """

    def __init__(self, block: Any, target_acceptance: float = 0.6, runs: int = 0):
        self.block, self.target_acceptance, self.runs = block, target_acceptance, runs
        self.done = 0
        self.kernel: Kernel = build("kernel", block)

    @property
    def adapts(self) -> bool:
        """Whether the step size is, or was, anything but the block's."""
        return self.runs > 0

    @property
    def step_size(self) -> float:
        return self.kernel.step_size

    def observe(self, acceptance: torch.Tensor) -> None:
        """Take note of the accepted share of one run, a scalar; the next run uses the new step size."""
        if self.done >= self.runs:
            return
        self.done += 1
        change = self.done**-DECAY * (float(acceptance) - self.target_acceptance)
        self._use(min(self.step_size * math.exp(change), self.kernel.largest_step_size))

    def _use(self, step_size: float) -> None:
        self.kernel = build("kernel", self.block.model_copy(update={"step_size": step_size}))

    def state_dict(self) -> dict:
        """What an unfinished run keeps."""
        return {"done": self.done, "step_size": self.step_size}

    def load_state_dict(self, state: dict) -> None:
        self.done = state["done"]
        self._use(state["step_size"])
