"""Exact draws from priors that have them."""

from __future__ import annotations

from jebm.config.types import Count
from jebm.errors import SettingError
from jebm.sampling.samplers.base import Sampler, populations


class Ancestral(Sampler):
    """Exact draws, for priors that support them: the Gaussian prior, mixtures and stored posterior draws.

    Args:
        batch_size: number of draws that are made at once; null makes all at once.
    """

    needs = "exact"

    def __init__(self, *, batch_size: Count | None = None):
        self.batch_size = batch_size

    def _generate(self, prior, dimensions, count, rng, progress):
        try:
            for size in populations(count, self.batch_size or count, progress, "draws"):
                yield prior.sample(size, rng)
        except NotImplementedError:
            raise SettingError(
                "draw_samples.sampler: 'ancestral' can't draw from a learned energy; use 'mcmc' or 'resampling'"
            ) from None
        return {}
