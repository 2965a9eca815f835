"""Energies on the concatenation of a layer and all layers above it: f(z) = Σ_i f_i([z_i, …, z_L]).

In a Markov hierarchy the top-down context is z_i itself; there this is the way to condition a term on the layers above.
"""

from __future__ import annotations

import torch

from jebm.config.types import Count, LayerChoice, Natural
from jebm.models.backbones.base import Hierarchy, TopDown, flatten
from jebm.models.energies.base import LayerEnergy, chosen_layers, layer_nets


class CumulativeEnergy(LayerEnergy):
    """A multilayer perceptron for each chosen layer, on the concatenation of this layer and all above it.

    Args:
        hierarchy: gives the number of dimensions of each layer.
        hidden, depth: units and number of hidden layers of each perceptron.
        layers: ``all``, a list of the layers that have an energy (1 is the bottom layer), or {top_scales: k} for the
            layers of the k coarsest scales.
    """

    def __init__(self, hierarchy: Hierarchy, *, hidden: Count = 128, depth: Natural = 2, layers: LayerChoice = "all"):
        super().__init__()
        sizes = [sum(hierarchy.layer_dims[i:]) for i in range(hierarchy.layers)]
        self.nets = layer_nets(sizes, hidden, depth, chosen_layers(hierarchy.latent_shapes, layers))

    def term(self, number: int, top: TopDown) -> torch.Tensor:
        return self.nets[str(number)](flatten(top.z)).squeeze(1)

    def term_inputs(self, layers: int) -> dict[str, tuple[int, ...]]:
        return {name: tuple(range(int(name) - 1, layers)) for name in self.nets}
