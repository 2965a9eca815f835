"""Draws from the learned density without a chain."""

from __future__ import annotations

from jebm.config.types import Count, Fraction
from jebm.sampling.partition import resample
from jebm.sampling.samplers.base import Sampler


class Resampling(Sampler):
    """Importance resampling of draws from the prior's defensive proposal: draws from the learned density without a
    chain.

    Args:
        pool: number of draws that are resampled.
        share: share of N(0, I) in the proposal; 1 is N(0, I) alone.
    """

    def __init__(self, *, pool: Count, share: Fraction = 0.2):
        self.pool, self.share = pool, share

    def _generate(self, prior, dimensions, count, rng, progress):
        eps, fraction = resample(prior, dimensions, count, self.pool, rng, self.share)
        yield eps
        return {"effective_sample_size": fraction * self.pool, "pool": self.pool}
