"""The chain: a kernel for K steps on a population, with a count of everything that went wrong."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    generator: torch.Generator,
    on_step: Callable[[int, State], None] | None = None,
) -> ChainResult:
    """Run ``steps`` transitions from ``start`` (chains, dimensions); nothing leaves the device until the end.

    ``on_step`` is told every step, counted from 1, and the state after it.
    """
    kernel.check(target)
    if target.lean and not kernel.adjusted and on_step is None:
        return _run_lean(kernel, target, start, steps, generator)
    state = kernel.evaluate(target, start)
    accepted = torch.zeros((), device=start.device)
    for step in range(steps):
        state, moved = kernel.step(target, state, generator)
        accepted = accepted + moved.float().mean()
        if on_step is not None:
            on_step(step + 1, state)
    finite = torch.isfinite(state.x).all(1) & torch.isfinite(state.value)
    return ChainResult(state.x.detach(), accepted / max(steps, 1), finite)


def _run_lean(kernel: Kernel, target: Target, x: torch.Tensor, steps: int, generator: torch.Generator) -> ChainResult:
    """The same states from the same noise, with an evaluation less, and nothing kept that is not needed."""
    threads = torch.get_num_threads() if x.device.type == "cpu" else 1
    if threads > 1 and target.alike and target.closed_form is not None and len(x) >= ROWS_A_THREAD * threads:
        x = _shared_out(kernel, target, x, steps, generator, threads)
    else:
        for _ in range(steps):
            x = kernel.move(target, x, _noise(x, generator))
    return ChainResult(x.detach(), torch.ones((), device=x.device), torch.isfinite(x).all(1))


ROWS_A_THREAD = 16
"""Fewer rows are not worth a thread."""
STEPS_AT_ONCE = 8
"""The noise of so many steps is drawn before the threads take them."""


def _shared_out(
    kernel: Kernel, target: Target, x: torch.Tensor, steps: int, generator: torch.Generator, threads: int
) -> torch.Tensor:
    """Each thread takes a share of the chains through all steps, with the noise that one thread would have given them.

    Small matrix products gain little from several threads each; chains, which know nothing of each other, all there is.
    """

    def walk(rows: torch.Tensor, noise: tuple[torch.Tensor, ...]) -> torch.Tensor:
        torch.set_num_threads(1)  # of this thread
        for own in noise:
            rows = kernel.move(target, rows, own)
        return rows

    shares = x.tensor_split(threads)
    try:
        torch.set_num_threads(1)
        with ThreadPoolExecutor(threads) as pool:
            for done in range(0, steps, STEPS_AT_ONCE):
                noise = [_noise(x, generator).tensor_split(threads) for _ in range(min(STEPS_AT_ONCE, steps - done))]
                shares = list(pool.map(walk, shares, zip(*noise, strict=True)))
    finally:
        torch.set_num_threads(threads)
    return torch.cat(shares)


def _noise(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
