"""The Gaussian prior of the backbone."""

from __future__ import annotations

import torch

from jebm.models.backbones.base import Hierarchy
from jebm.models.priors.base import Prior


class GaussianPrior(Prior):
    """The Gaussian prior of the backbone; its tilt is zero."""

    normalised = True
    exact = True

    def __init__(self, hierarchy: Hierarchy):
        super().__init__(hierarchy)
        self.dimensions = hierarchy.dimensions

    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        return eps.new_zeros(len(eps))

    def sample(self, count: int, rng: torch.Generator) -> torch.Tensor:
        return torch.randn(count, self.dimensions, generator=rng, device=rng.device)
