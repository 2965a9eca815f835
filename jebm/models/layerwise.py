"""Energies that look at one layer each, summed: f(z) = Σ_i f_i(z_i) (arXiv 2306.06323, eq. 8)."""

from __future__ import annotations

import math

import torch
from torch import nn

from jebm.models.energy import Energy
from jebm.models.hierarchy import Hierarchy, TopDown
from jebm.models.nets import mlp
from jebm.types import Count, LayerChoice, Natural


class LayerwiseEnergy(Energy):
    """A multilayer perceptron for each chosen layer.

    Args:
        hierarchy: gives the shape of each layer.
        hidden, depth: units and number of hidden layers of each perceptron; depth 0 is linear in z_i.
        layers: ``all``, or the numbers of the layers that have an energy, 1 being the bottom one.
    """

    def __init__(self, hierarchy: Hierarchy, *, hidden: Count = 128, depth: Natural = 2, layers: LayerChoice = "all"):
        super().__init__()
        shapes = hierarchy.latent_shapes
        chosen = range(1, len(shapes) + 1) if layers == "all" else layers
        self.nets = nn.ModuleDict({str(i): mlp(math.prod(shapes[i - 1]), 1, hidden, depth) for i in chosen})

    def terms(self, top: TopDown) -> torch.Tensor:
        return torch.cat([net(top.z[int(i) - 1].flatten(1)) for i, net in self.nets.items()], dim=1)
