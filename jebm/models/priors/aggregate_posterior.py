"""Draws of the inference network as a prior: what every prior on a frozen backbone is fitted to."""

from __future__ import annotations

import torch

from jebm.config.types import Count
from jebm.models.backbones.base import Hierarchy
from jebm.models.priors.base import Prior
from jebm.runtime.distributed import ranks


class AggregatePosterior(Prior):
    """The empirical distribution of draws from q(ε) = mean of q(ε | x) over training images x.

    Decoded, they show how good samples can be that a fitted prior decodes on this backbone. It has no density, so
    :meth:`tilt` is not available.

    Args:
        draws: draws of q(ε | x) for each image.
        images: largest number of training images, chosen at random; null takes all.
    """

    exact = True
    evaluable = False
    candidate = False
    fit = "jebm.training.aggregate_posterior:fit"

    def __init__(self, hierarchy: Hierarchy, *, draws: Count = 5, images: Count | None = None):
        super().__init__(hierarchy)
        self.draws, self.images = draws, images
        self.register_buffer("rows", None)
        self._next = torch.empty(0, dtype=torch.int64)

    def set(self, rows: torch.Tensor) -> None:
        """Set the draws, flat ε (count, dimensions)."""
        self.rows = rows

    def load_state_dict(self, state_dict, strict=True, assign=False):
        self.set(state_dict["rows"])
        return super().load_state_dict(state_dict, strict, assign)

    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("draws of the inference network have no density that can be evaluated")

    def sample(self, count: int, rng: torch.Generator) -> torch.Tensor:
        """Stored draws in random order, (count, dimensions).

        Successive calls return different ones until all have been returned, then all of them again in another order.
        With several ranks, each returns its own share of them.
        """
        share = torch.tensor(ranks().shard_range(len(self.rows)))
        while len(self._next) < count:
            order = torch.randperm(len(share), generator=rng, device=rng.device).cpu()
            self._next = torch.cat([self._next, share[order]])
        chosen, self._next = self._next[:count], self._next[count:]
        return self.rows[chosen.to(self.rows.device)]
