"""Energies coupled through the top-down context: f(z) = Σ_i f_i(h_i), with h_i a function of z_i … z_L.

An extension of the paper's layer-wise energies, which see one z_i each. NCP-VAE's hierarchical form (Aneja et al.,
2021) also conditions on features of the groups above, but is a product of conditionals, trained one by one; here all
terms stand under one joint normaliser and are learned together by maximum likelihood.
"""

from __future__ import annotations

import math

import torch

from jebm.config.types import Count, LayerChoice, Natural
from jebm.models.backbones.base import Hierarchy, TopDown
from jebm.models.energies.base import LayerEnergy, chosen_layers, layer_nets


class ContextEnergy(LayerEnergy):
    """A multilayer perceptron on the context of each chosen layer.

    Args:
        hierarchy: gives the shape of each layer's context.
        hidden, depth: units and number of hidden layers of each perceptron.
        layers: ``all``, the numbers of the layers that have an energy, 1 being the bottom one, or {top_scales: k} for
            those of the k coarsest scales.
    """

    def __init__(self, hierarchy: Hierarchy, *, hidden: Count = 64, depth: Natural = 2, layers: LayerChoice = "all"):
        super().__init__()
        sizes = [math.prod(shape) for shape in hierarchy.context_shapes]
        self.nets = layer_nets(sizes, hidden, depth, chosen_layers(hierarchy.latent_shapes, layers))

    def term(self, number: int, top: TopDown) -> torch.Tensor:
        return self.nets[str(number)](top.context[0].flatten(1)).squeeze(1)
