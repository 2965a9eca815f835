"""Energies that look at one layer each, summed: f(z) = Σ_i f_i(z_i) (arXiv 2306.06323, eq. 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from jebm.models.hierarchy import Latents
from jebm.models.nets import initialise, mlp
from jebm.types import Count, LayerChoice, Natural


class LayerwiseEnergy(nn.Module):
    """A multilayer perceptron for each chosen layer. f is a *negative* energy: high means likely.

    Args:
        latent_shapes: shape of each layer, bottom first.
        hidden, depth: units and number of hidden layers of each perceptron; depth 0 is linear in z_i.
        layers: ``all``, or the numbers of the layers that have an energy, 1 being the bottom one.
    """

    def __init__(
        self,
        latent_shapes: Sequence[tuple[int, ...]],
        *,
        hidden: Count = 128,
        depth: Natural = 2,
        layers: LayerChoice = "all",
    ):
        super().__init__()
        chosen = range(1, len(latent_shapes) + 1) if layers == "all" else layers
        self.nets = nn.ModuleDict({str(i): mlp(math.prod(latent_shapes[i - 1]), 1, hidden, depth) for i in chosen})

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Random hidden layers and a zero output layer: training starts from f = 0, the Gaussian hierarchy."""
        initialise(self, generator)
        for net in self.nets.values():
            net[-1].weight.zero_()
            net[-1].bias.zero_()

    def terms(self, z: Latents) -> torch.Tensor:
        """f_i(z_i) for the chosen layers, (batch, chosen), in the order of their numbers in ``layers``."""
        return torch.cat([net(z[int(i) - 1].flatten(1)) for i, net in self.nets.items()], dim=1)

    def forward(self, z: Latents) -> torch.Tensor:
        """f(z), (batch,), nats."""
        return self.terms(z).sum(1)
