"""Exact draws from priors that have them."""

from __future__ import annotations

from jebm.config.types import Count
from jebm.errors import SettingError
from jebm.sampling.samplers.base import Sampler


class Ancestral(Sampler):
    """Exact draws, for priors that support them: the Gaussian prior, mixtures and stored posterior draws.

    Args:
        batch_size: number of draws that are made at once; null makes all at once.
    """

    needs = "exact"

    def __init__(self, *, batch_size: Count | None = None):
        self.batch_size = batch_size

    def _generate(self, prior, dimensions, count, rng, progress):
        size = self.batch_size or count
        try:
            for done in range(0, count, size):
                yield prior.sample(min(size, count - done), rng)
                progress("draws", min(done + size, count), count)
        except NotImplementedError:
            raise SettingError(
                "draw_samples.sampler: 'ancestral' can't draw from a learned energy; use 'mcmc' or 'resampling'"
            ) from None
        return {}
