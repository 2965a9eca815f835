"""Exact draws from priors that have them."""

from __future__ import annotations

from jebm.config.types import Count
from jebm.errors import SettingError
from jebm.sampling.samplers.base import Sampler


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
