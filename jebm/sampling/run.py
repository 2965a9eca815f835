"""The chain: a kernel for K steps on a population, with a count of everything that went wrong."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from jebm.sampling.kernel import Kernel
from jebm.sampling.target import State, Target


class ChainResult(NamedTuple):
    x: torch.Tensor
    """(chains, dimensions): where the chains ended."""
    acceptance: torch.Tensor
    """Scalar: accepted fraction of all proposals; 1 without a test."""
    finite: torch.Tensor
    """(chains,) bool: which chains ended with a finite state and log density (a lean one: with a finite state)."""

    @property
    def non_finite(self) -> torch.Tensor:
        """Scalar: how many chains did not."""
        return (~self.finite).sum()


def run_chain(
    kernel: Kernel,
    target: Target,
    start: torch.Tensor,
    steps: int,
    rng: torch.Generator,
    on_step: Callable[[int, State], None] | None = None,
) -> ChainResult:
    """Run ``steps`` transitions from ``start`` (chains, dimensions); nothing leaves the device until the end.

    ``on_step`` is told every step, counted from 1, and the state after it.
    """
    kernel.check(target)
    if target.lean and not kernel.adjusted and on_step is None:
        return _run_lean(kernel, target, start, steps, rng)
    state = kernel.evaluate(target, start)
    accepted = torch.zeros((), device=start.device)
    for step in range(steps):
        state, moved = kernel.step(target, state, rng)
        accepted = accepted + moved.float().mean()
        if on_step is not None:
            on_step(step + 1, state)
    finite = torch.isfinite(state.x).all(1) & torch.isfinite(state.value)
    return ChainResult(state.x.detach(), accepted / max(steps, 1), finite)


def _run_lean(kernel: Kernel, target: Target, x: torch.Tensor, steps: int, rng: torch.Generator) -> ChainResult:
    """The same states from the same noise, with an evaluation less, and nothing kept that is not needed."""
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=rng, device=x.device, dtype=x.dtype)
        x = kernel.move(target, x, noise)
    return ChainResult(x.detach(), torch.ones((), device=x.device), torch.isfinite(x).all(1))
