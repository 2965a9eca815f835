"""Energies that depend on one layer each: f(z) = Σ_i f_i(z_i) (arXiv 2306.06323, eq. 8)."""

from __future__ import annotations

import torch

from jebm.config.types import Activation, EnergyStart, LayerChoice, LayerDepth, LayerWidth
from jebm.models.backbones.base import Hierarchy, TopDown
from jebm.models.energies.base import LayerEnergy, chosen_layers, layer_nets


class LayerwiseEnergy(LayerEnergy):
    """A multilayer perceptron for each chosen layer.

    Args:
        hierarchy: gives the shape of each layer.
        hidden, depth: units and number of hidden layers of each perceptron; depth 0 is linear in z_i. A list has one
            entry per layer that has an energy.
        layers: ``all``, a list of the layers that have an energy (1 is the bottom layer), or {top_scales: k} for the
            layers of the k coarsest scales.
        activation: activation of the hidden layers.
        start: ``zero`` initialises f to 0, ``random`` (the paper) leaves the output layer at PyTorch's default.
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        *,
        hidden: LayerWidth = 128,
        depth: LayerDepth = 2,
        layers: LayerChoice = "all",
        activation: Activation = "silu",
        start: EnergyStart = "zero",
    ):
        super().__init__()
        self.start = start
        self.nets = layer_nets(
            hierarchy.layer_dims, hidden, depth, chosen_layers(hierarchy.latent_shapes, layers), activation
        )

    def term(self, number: int, top: TopDown) -> torch.Tensor:
        return self.nets[str(number)](top.z[0].flatten(1)).squeeze(1)

    def term_inputs(self, layers: int) -> dict[str, tuple[int, ...]]:
        return {name: (int(name) - 1,) for name in self.nets}
