"""Samplers: how draws of a prior are made. Each takes its parameters by keyword and implements ``_generate``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NamedTuple

import torch

from jebm.config.components import build
from jebm.config.types import ChainStart, Count, Gradients, KernelBlock, LatentSpace, StepSizeSource
from jebm.errors import DivergedError, SettingError
from jebm.models.nets import frozen
from jebm.models.priors.base import Prior
from jebm.runtime.memory import explain_out_of_memory
from jebm.sampling.closed_form.gradients import prior_target
from jebm.sampling.kernel import Kernel
from jebm.sampling.partition import resample
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import SPACES


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


class Ancestral(Sampler):
    """Exact draws, for priors that support them: the Gaussian prior and mixtures.

    Args:
        chunk: number of draws per chunk; null draws all at once.
    """

    needs = "normalised"

    def __init__(self, *, chunk: Count | None = None):
        self.chunk = chunk

    def _generate(self, prior, dimensions, count, rng, progress):
        size = self.chunk or count
        try:
            for done in range(0, count, size):
                yield prior.sample(min(size, count - done), rng)
                progress("draws", min(done + size, count), count)
        except NotImplementedError:
            raise SettingError(
                "draw_samples.sampler: 'ancestral' can't draw from a learned energy; use 'chain' or 'resampling'"
            ) from None
        return {}


class Chain(Sampler):
    """The end points of chains on the prior, over all layers jointly.

    Args:
        kernel: the transition.
        steps: number of transitions of each chain.
        chains: number of chains that run in parallel.
        may_diverge: whether chains that are not finite are dropped, even if these are all chains, and their share is
            reported; otherwise they are an error.
        space: ``whitened``, or ``z`` for priors with an energy of z. In z-space, unadjusted Langevin dynamics with step
            size s is stable only if every σ_i > s/2.
        start: ``normal`` for draws from N(0, I) in that space, ``generator`` for draws from the Gaussian hierarchy. In
            whitened space both are N(0, I).
        step_size: ``own`` for the step size of the kernel, ``adapted`` for the result of ``train_prior.chain.adapt``.
        gradients: ``autograd``, or ``closed-form`` where the networks have a closed form.
    """

    def __init__(
        self,
        *,
        kernel: KernelBlock,
        steps: Count,
        chains: Count = 2000,
        may_diverge: bool = False,
        space: LatentSpace = "whitened",
        start: ChainStart = "normal",
        step_size: StepSizeSource = "own",
        gradients: Gradients = "autograd",
    ):
        self.block, self.kernel, self.steps, self.chains = kernel, build("kernel", kernel), steps, chains
        self.may_diverge, self.space, self.start = may_diverge, space, start
        self.step_size, self.gradients = step_size, gradients

    def kernel_for(self, prior: Prior) -> Kernel:
        """The kernel with the step size that ``step_size`` selects.

        Raises:
            SettingError: ``step_size`` is ``adapted``, but training did not adapt one.
        """
        if self.step_size == "own":
            return self.kernel
        if prior.adapted_step_size is None:
            raise SettingError(
                "draw_samples.sampler.step_size: is 'adapted', but the prior was trained without "
                "train_prior.chain.adapt"
            )
        return build("kernel", self.block.model_copy(update={"step_size": prior.adapted_step_size}))

    def _generate(self, prior, dimensions, count, rng, progress):
        kernel = self.kernel_for(prior)
        space = SPACES[self.space](getattr(prior, "hierarchy", None), prior) if self.space != "whitened" else None
        target = space.target(self.gradients) if space else prior_target(prior, self.gradients)
        acceptance, non_finite, done = 0.0, 0, 0
        advice = f"lower draw_samples.sampler.chains (now {self.chains})"
        while done < count:
            size = min(self.chains, count - done)
            start = torch.randn(size, dimensions, generator=rng, device=rng.device)
            if space and self.start == "generator":
                start = space.from_noise(start)
            with frozen(prior), explain_out_of_memory(f"{size} chains", advice):
                result = run_chain(kernel, target, start, self.steps, rng)
            eps = space.to_noise(result.x) if space else result.x
            finite = result.finite & torch.isfinite(eps).all(1)
            acceptance += float(result.acceptance) * size
            non_finite += int((~finite).sum())
            done += size
            progress("chains", done, count)
            yield eps[finite]
        if not self.may_diverge:
            refuse_non_finite(non_finite, count, self.steps)
        diagnostics = {"acceptance": acceptance / count, "langevin_steps": self.steps}
        if self.may_diverge:
            diagnostics["non_finite"] = non_finite / count
        if self.step_size == "adapted":
            diagnostics["step_size"] = kernel.step_size
        return diagnostics


class Resampling(Sampler):
    """Importance resampling of draws from N(0, I): draws from the learned density without a chain.

    Args:
        pool: number of draws from N(0, I) that are resampled.
    """

    def __init__(self, *, pool: Count):
        self.pool = pool

    def _generate(self, prior, dimensions, count, rng, progress):
        eps, fraction = resample(prior, dimensions, count, self.pool, rng)
        yield eps
        return {"effective_sample_size": fraction * self.pool, "pool": self.pool}
