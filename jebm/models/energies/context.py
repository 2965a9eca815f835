"""Energies coupled through the top-down context: f(z) = Σ_i f_i(h_i), with h_i a function of z_i … z_L.

This extends the paper's layer-wise energies, each of which depends on one z_i. The hierarchical form of NCP-VAE (Aneja
et al., 2021) also conditions on features of the layers above, but is a product of conditionals that are trained one by
one. Here all terms share one normaliser and are trained jointly by maximum likelihood.
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
        layers: ``all``, a list of the layers that have an energy (1 is the bottom layer), or {top_scales: k} for the
            layers of the k coarsest scales.
    """

    def __init__(self, hierarchy: Hierarchy, *, hidden: Count = 64, depth: Natural = 2, layers: LayerChoice = "all"):
        super().__init__()
        sizes = [math.prod(shape) for shape in hierarchy.context_shapes]
        self.nets = layer_nets(sizes, hidden, depth, chosen_layers(hierarchy.latent_shapes, layers))

    def term(self, number: int, top: TopDown) -> torch.Tensor:
        return self.nets[str(number)](top.context[0].flatten(1)).squeeze(1)
