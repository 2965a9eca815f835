"""Draws from the learned density without a chain."""

from __future__ import annotations

from jebm.config.types import Count
from jebm.sampling.partition import resample
from jebm.sampling.samplers.base import Sampler


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
