"""Small networks and their initialisation from an explicit generator."""

from collections.abc import Iterable
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils import skip_init

NEGATIVE_SLOPE = 0.2
"""Of every leaky ReLU: the published generators and energies agree on it."""


def activation(name: str) -> nn.Module:
    """The activation of that name in params.yaml (``jebm.config.types.Activation``)."""
    return nn.SiLU() if name == "silu" else nn.LeakyReLU(NEGATIVE_SLOPE)


def mlp(inputs: int, outputs: int, hidden: int, depth: int, units: str = "silu") -> nn.Sequential:
    """``depth`` hidden layers of ``hidden`` units; 0 is a linear map. Initialise with :func:`initialise`."""
    sizes = [inputs, *[hidden] * depth]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [skip_init(nn.Linear, before, after), activation(units)]
    return nn.Sequential(*layers, skip_init(nn.Linear, sizes[-1], outputs))


@torch.no_grad()
def initialise(module: nn.Module, rng: torch.Generator) -> None:
    """Weights and biases of all linear and convolutional layers uniform in ±1/√fan_in, PyTorch's default.

    What PyTorch counts as the fan-in of a transposed convolution is the fan-in of the convolution that it transposes:
    out_channels · kernel².
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            bound = layer.weight[0].numel() ** -0.5
            layer.weight.uniform_(-bound, bound, generator=rng)
            if layer.bias is not None:
                layer.bias.uniform_(-bound, bound, generator=rng)


@contextmanager
def frozen(*modules: nn.Module):
    """Within it no parameter of the modules requires a gradient, so that chains build no graph through weights."""
    with frozen_parameters(p for module in modules for p in module.parameters()):
        yield


@contextmanager
def frozen_parameters(parameters: Iterable[nn.Parameter]):
    """Within it none of the parameters requires a gradient: what is computed there depends on the others alone."""
    held = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)
