"""Runs a kernel for a number of steps on a population of chains, and reports the chains that are not finite."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from jebm.sampling.kernel import Kernel
from jebm.sampling.target import State, Target


class ChainResult(NamedTuple):
    """The end of a run of chains, on the device."""

    x: torch.Tensor
    """(chains, dimensions): the end points of the chains."""
    acceptance: torch.Tensor
    """Scalar: acceptance rate over all proposals; 1 without a Metropolis–Hastings test."""
    finite: torch.Tensor
    """(chains,) bool: whether the end point and its log density are finite. A lean run checks only the end point."""

    @property
    def non_finite(self) -> torch.Tensor:
        """Scalar: number of chains that are not finite."""
        return (~self.finite).sum()


def run_chain(
    kernel: Kernel,
    target: Target,
    start: torch.Tensor,
    steps: int,
    rng: torch.Generator,
    on_step: Callable[[int, State], None] | None = None,
) -> ChainResult:
    """Run ``steps`` transitions from ``start`` (chains, dimensions) without synchronising host and device.

    Args:
        on_step: called with the number of each step, from 1, and the state after it.

    Raises:
        ValueError: the kernel can't sample the target.
    """
    kernel.check(target)
    if target.lean and not kernel.adjusted and on_step is None:
        return _run_lean(kernel, target, start, steps, rng)
    state = kernel.evaluate(target, start)
    accepted = torch.zeros((), device=start.device)
    for step in range(steps):
        state, accepted_now = kernel.step(target, state, rng)
        accepted = accepted + accepted_now.float().mean()
        if on_step is not None:
            on_step(step + 1, state)
    finite = torch.isfinite(state.x).all(1) & torch.isfinite(state.value)
    return ChainResult(state.x.detach(), accepted / max(steps, 1), finite)


def _run_lean(kernel: Kernel, target: Target, x: torch.Tensor, steps: int, rng: torch.Generator) -> ChainResult:
    """As :func:`run_chain`, with the same noise, but without values of the density."""
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=rng, device=x.device, dtype=x.dtype)
        x = kernel.move(target, x, noise)
    return ChainResult(x.detach(), torch.ones((), device=x.device), torch.isfinite(x).all(1))
