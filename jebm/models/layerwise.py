"""Energies that look at one layer each, summed: f(z) = Σ_i f_i(z_i) (arXiv 2306.06323, eq. 8)."""

from __future__ import annotations

import torch

from jebm.models.energy import LayerEnergy, layer_nets
from jebm.models.hierarchy import Hierarchy, TopDown
from jebm.types import Count, LayerChoice, Natural


class LayerwiseEnergy(LayerEnergy):
    """A multilayer perceptron for each chosen layer.

    Args:
        hierarchy: gives the shape of each layer.
        hidden, depth: units and number of hidden layers of each perceptron; depth 0 is linear in z_i.
        layers: ``all``, or the numbers of the layers that have an energy, 1 being the bottom one.
    """

    def __init__(self, hierarchy: Hierarchy, *, hidden: Count = 128, depth: Natural = 2, layers: LayerChoice = "all"):
        super().__init__()
        self.nets = layer_nets(hierarchy.layer_dims, hidden, depth, layers)

    def term(self, number: int, top: TopDown) -> torch.Tensor:
        return self.nets[str(number)](top.z[0].flatten(1)).squeeze(1)

    def reads(self, layers: int) -> dict[str, tuple[int, ...]]:
        return {name: (int(name) - 1,) for name in self.nets}
