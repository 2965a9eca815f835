"""One energy on the concatenation of all layers: f(z) = f([z_1, …, z_L])."""

from __future__ import annotations

import torch
from torch import nn

from jebm.config.types import Count, Natural
from jebm.models.backbones.base import Hierarchy, TopDown, flatten
from jebm.models.energies.base import Energy
from jebm.models.nets import mlp


class ConcatenatedEnergy(Energy):
    """One multilayer perceptron on the concatenation of all layers.

    Args:
        hierarchy: gives the number of latent dimensions.
        hidden, depth: units and number of hidden layers.
    """

    def __init__(self, hierarchy: Hierarchy, *, hidden: Count = 128, depth: Natural = 2):
        super().__init__()
        self.nets = nn.ModuleDict({"all": mlp(hierarchy.dimensions, 1, hidden, depth)})

    def terms(self, top: TopDown) -> torch.Tensor:
        return self.nets["all"](flatten(top.z))

    def term_inputs(self, layers: int) -> dict[str, tuple[int, ...]]:
        return {"all": tuple(range(layers))}
