"""Energies of latent feature maps, one per layer: strided convolutions down to 4×4, then linear layers.

The networks of the paper's two-stage experiments on deep backbones (arXiv 2306.06323).
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils import skip_init

from jebm.config.types import Activation, Count, EnergyStart, LayerChoice
from jebm.models.backbones.base import Hierarchy, TopDown
from jebm.models.energies.base import LayerEnergy, chosen_layers
from jebm.models.nets import activation

MIN_SIZE = 4
"""Height and width down to which maps are halved."""


class ConvolutionalEnergy(LayerEnergy):
    """For each chosen layer a network of n 4×4 convolutions of stride 2, which reduce its map to 4×4, n hidden linear
    layers and a scalar output. For a vector, or a map of 4×4 or less, there is no convolution and one hidden layer.

    Args:
        hierarchy: gives the shape of each layer.
        channels: channels of the convolutions.
        hidden: units of each hidden linear layer.
        layers: ``all``, a list of the layers that have an energy (1 is the bottom layer), or {top_scales: k} for the
            layers of the k coarsest scales.
        activation: activation of all hidden layers.
        start: ``zero`` initialises f to 0, ``random`` (the paper) leaves the output layer at PyTorch's default.
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        *,
        channels: Count = 64,
        hidden: Count = 200,
        layers: LayerChoice = "all",
        activation: Activation = "leaky-relu",
        start: EnergyStart = "zero",
    ):
        super().__init__()
        self.start = start
        shapes = hierarchy.latent_shapes
        self.nets = nn.ModuleDict(
            {
                str(number): map_net(shapes[number - 1], channels, hidden, activation)
                for number in chosen_layers(shapes, layers)
            }
        )

    def term(self, number: int, top: TopDown) -> torch.Tensor:
        return self.nets[str(number)](top.z[0]).squeeze(1)


def map_net(shape: tuple[int, ...], channels: int, hidden: int, units: str) -> nn.Sequential:
    """The network (batch, *shape) → (batch, 1)."""
    size, inputs, layers = shape[-1] if len(shape) == 3 else 1, shape[0], []
    while size > MIN_SIZE:
        layers += [skip_init(nn.Conv2d, inputs, channels, 4, stride=2, padding=1), activation(units)]
        size, inputs = size // 2, channels
    convolutions = len(layers) // 2
    width = inputs * size**2 if len(shape) == 3 else math.prod(shape)
    layers.append(nn.Flatten())
    for _ in range(max(convolutions, 1)):
        layers += [skip_init(nn.Linear, width, hidden), activation(units)]
        width = hidden
    return nn.Sequential(*layers, skip_init(nn.Linear, width, 1))
