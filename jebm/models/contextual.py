"""Energies coupled through the top-down context: f(z) = Σ_i f_i(h_i), with h_i a function of z_i … z_L.

An extension of the paper's layer-wise energies, which see one z_i each. NCP-VAE's hierarchical form (Aneja et al.,
2021) also conditions on features of the groups above, but is a product of conditionals, trained one by one; here all
terms stand under one joint normaliser and are learned together by maximum likelihood.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from jebm.models.energy import Energy
from jebm.models.hierarchy import Hierarchy, TopDown
from jebm.models.nets import mlp
from jebm.types import Count, LayerChoice, Natural


class ContextEnergy(Energy):
    """A multilayer perceptron on the context of each chosen layer.

    Args:
        hierarchy: gives the shape of each layer's context.
        hidden, depth: units and number of hidden layers of each perceptron.
        layers: ``all``, or the numbers of the layers that have an energy, 1 being the bottom one.
    """

    def __init__(self, hierarchy: Hierarchy, *, hidden: Count = 64, depth: Natural = 2, layers: LayerChoice = "all"):
        super().__init__()
        shapes = hierarchy.context_shapes
        chosen = range(1, len(shapes) + 1) if layers == "all" else layers
        self.nets = nn.ModuleDict({str(i): mlp(math.prod(shapes[i - 1]), 1, hidden, depth) for i in chosen})

    def terms(self, top: TopDown) -> torch.Tensor:
        return torch.cat([net(top.context[int(i) - 1].flatten(1)) for i, net in self.nets.items()], dim=1)
