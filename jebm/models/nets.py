"""Small networks, and initialisation by an explicit random number generator."""

from collections.abc import Iterable
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils import skip_init

NEGATIVE_SLOPE = 0.2
"""Slope of all leaky ReLUs; the published decoders and energies use the same."""


def activation(name: str) -> nn.Module:
    """The activation module for a value of ``jebm.config.types.Activation``."""
    return nn.SiLU() if name == "silu" else nn.LeakyReLU(NEGATIVE_SLOPE)


def mlp(inputs: int, outputs: int, hidden: int, depth: int, units: str = "silu") -> nn.Sequential:
    """A perceptron with ``depth`` hidden layers; 0 is a linear map. It must be initialised by :func:`initialise`."""
    sizes = [inputs, *[hidden] * depth]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [skip_init(nn.Linear, before, after), activation(units)]
    return nn.Sequential(*layers, skip_init(nn.Linear, sizes[-1], outputs))


@torch.no_grad()
def initialise(module: nn.Module, rng: torch.Generator) -> None:
    """Draw all weights and biases of linear and convolutional layers uniformly in ±1/√fan_in, PyTorch's default.

    As in PyTorch, the fan-in of a transposed convolution is out_channels · kernel².
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            bound = layer.weight[0].numel() ** -0.5
            layer.weight.uniform_(-bound, bound, generator=rng)
            if layer.bias is not None:
                layer.bias.uniform_(-bound, bound, generator=rng)


@contextmanager
def frozen(*modules: nn.Module):
    """A context in which no parameter of the modules requires a gradient, so that chains build no graph for them."""
    with frozen_parameters(p for module in modules for p in module.parameters()):
        yield


@contextmanager
def frozen_parameters(parameters: Iterable[nn.Parameter]):
    """A context in which none of these parameters requires a gradient."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
