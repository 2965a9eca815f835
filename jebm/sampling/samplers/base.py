"""Samplers: how draws of a prior are made. Each takes its parameters by keyword and implements ``_generate``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NamedTuple

import torch

from jebm.errors import DivergedError
from jebm.models.priors.base import Prior


class Draws(NamedTuple):
    """Draws from a prior."""

    eps: torch.Tensor
    """(count, dimensions), flat whitened latents."""
    diagnostics: dict[str, float]
    """How they were drawn: acceptance, effective sample size …"""


Progress = Callable[[str, int, int], None]
"""Called with the kind of work, the number of items done, and their total number."""


ChunkGenerator = Generator[torch.Tensor, None, dict[str, float]]
"""Yields flat ε (chunk, dimensions), and returns the diagnostics."""


class Chunks:
    """Draws as chunks of flat ε (chunk, dimensions), which can be iterated over once."""

    def __init__(self, chunks: ChunkGenerator):
        self._chunks = chunks
        self.diagnostics: dict[str, float] = {}
        """See :class:`Draws`; complete after the last chunk."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        self.diagnostics = yield from self._chunks


class Sampler(ABC):
    """Draws from a prior. The draws depend only on the prior, the count and the state of the RNG."""

    needs = "evaluable"
    """The attribute of :class:`jebm.models.priors.base.Prior` that a prior must have to be drawn from."""

    @abstractmethod
    def _generate(
        self, prior: Prior, dimensions: int, count: int, rng: torch.Generator, progress: Progress
    ) -> ChunkGenerator:
        """Yield ``count`` draws from the prior, without those that are not finite; return the diagnostics."""

    def chunks(self, prior: Prior, dimensions: int, count: int, rng: torch.Generator, progress: Progress) -> Chunks:
        """``count`` draws from the prior, made chunk by chunk as they are iterated over.

        There are fewer draws if the sampler drops chains that are not finite.
        """
        return Chunks(self._generate(prior, dimensions, count, rng, progress))

    def draw(self, prior: Prior, dimensions: int, count: int, rng: torch.Generator, progress: Progress) -> Draws:
        """All draws in one tensor; see :meth:`chunks`."""
        chunks = self.chunks(prior, dimensions, count, rng, progress)
        return Draws(torch.cat(list(chunks)), chunks.diagnostics)


def populations(count: int, chains: int, progress: Progress, what: str = "chains") -> Iterator[int]:
    """The sizes of the populations of at most ``chains`` that make ``count`` draws; logs each one after it was used."""
    for done in range(0, count, chains):
        size = min(chains, count - done)
        yield size
        progress(what, done + size, count)


def in_batches(chunks: Iterable[torch.Tensor], size: int) -> Iterator[torch.Tensor]:
    """Regroup chunks of any sizes into batches of ``size``; the last batch may be smaller."""
    rest: list[torch.Tensor] = []
    for chunk in chunks:
        *whole, last = torch.cat([*rest, chunk]).split(size)
        yield from whole
        rest = [last]
        if len(last) == size:
            yield last
            rest = []
    if rest and len(rest[0]):
        yield rest[0]


def refuse_non_finite(non_finite: int, count: int, steps: int) -> None:
    """Raise DivergedError if some chains are not finite."""
    if non_finite:
        raise DivergedError(
            f"{non_finite} of {count} chains are not finite after {steps} steps; "
            "lower draw_samples.sampler.kernel.step_size or set its adjusted: true"
        )
