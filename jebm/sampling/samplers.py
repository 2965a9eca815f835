"""Samplers: how draws of a prior are made. Each takes its parameters by keyword and offers ``draw``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch

from jebm.errors import DivergedError, JebmError
from jebm.models.nets import frozen
from jebm.models.priors import Prior
from jebm.registry import build
from jebm.sampling.partition import resample
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import Latent
from jebm.sampling.target import Target
from jebm.types import ChainStart, Count, KernelBlock, LatentSpace


class Draws(NamedTuple):
    eps: torch.Tensor
    """(count, dimensions), flat whitened latents."""
    diagnostics: dict[str, float]
    """What a reader must know of how they were drawn: acceptance, effective sample size …"""


Progress = Callable[[str, int, int], None]
"""Told what is being done, how far it is, and out of how much."""


class Sampler(ABC):
    @abstractmethod
    def draw(self, prior: Prior, dimensions: int, count: int, generator: torch.Generator, progress: Progress) -> Draws:
        """``count`` draws from the prior."""


def refuse_non_finite(non_finite: int, count: int, steps: int) -> None:
    """Raises DivergedError if some of the chains are not finite."""
    if non_finite:
        raise DivergedError(
            f"{non_finite} of {count} chains are not finite after {steps} steps; "
            "lower draw_samples.sampler.kernel.step_size or set its adjusted: true"
        )


class Ancestral(Sampler):
    """Exact draws, for priors that have them: the Gaussian prior and mixtures."""

    def draw(self, prior, dimensions, count, generator, progress):
        try:
            return Draws(prior.sample(count, generator), {})
        except NotImplementedError:
            raise JebmError(
                "params.yaml: draw_samples.sampler: 'ancestral' can't draw from a learned energy; "
                "use 'chain' or 'resampling'"
            ) from None


class Chain(Sampler):
    """The end points of chains on the prior, all layers at once.

    Args:
        kernel: one transition.
        steps: transitions of each chain.
        chains: how many run side by side.
        may_diverge: drop chains that are not finite and report their share, instead of failing.
        space: ``whitened``, or ``z`` for priors with an energy of z. There unadjusted Langevin of step s is stable
            only while every σ_i > s/2.
        start: ``normal`` for N(0, I) in that space, every layer on its own; ``generator`` for draws of the Gaussian
            hierarchy. In whitened space they are the same.
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
    ):
        self.kernel, self.steps, self.chains = build("kernel", kernel), steps, chains
        self.may_diverge, self.space, self.start = may_diverge, space, start

    def draw(self, prior, dimensions, count, generator, progress):
        space = Latent(getattr(prior, "hierarchy", None), prior) if self.space == "z" else None
        target, ends, acceptance, non_finite, done = Target(prior.tilt), [], 0.0, 0, 0
        if space:
            target = space.target()
        with frozen(prior):
            while done < count:
                size = min(self.chains, count - done)
                start = torch.randn(size, dimensions, generator=generator, device=generator.device)
                if space and self.start == "generator":
                    start = space.enter(start)
                result = run_chain(self.kernel, target, start, self.steps, generator)
                eps = space.whiten(result.x) if space else result.x
                finite = result.finite & torch.isfinite(eps).all(1)
                ends.append(eps[finite])
                acceptance += float(result.acceptance) * size
                non_finite += int((~finite).sum())
                done += size
                progress("chains", done, count)
        if not (self.may_diverge and non_finite < count):
            refuse_non_finite(non_finite, count, self.steps)
        diagnostics = {"acceptance": acceptance / count, "langevin_steps": self.steps}
        if self.may_diverge:
            diagnostics["non_finite"] = non_finite / count
        return Draws(torch.cat(ends), diagnostics)


class Resampling(Sampler):
    """Importance resampling of Gaussian-prior draws: samples of the learned density itself, without a chain.

    Args:
        pool: draws of the Gaussian prior to choose from.
    """

    def __init__(self, *, pool: Count):
        self.pool = pool

    def draw(self, prior, dimensions, count, generator, progress):
        eps, fraction = resample(prior, dimensions, count, self.pool, generator)
        return Draws(eps, {"effective_sample_size": fraction * self.pool, "pool": self.pool})
