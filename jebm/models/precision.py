"""Mixed precision: matrix products and convolutions of networks in training are computed in bfloat16.

This applies only to the networks of a hierarchy, and only while their weights require gradients. Chains, which run on
frozen weights, energies, log densities and evaluations are computed in float32.
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from jebm.config.schema import Compute
from jebm.models.backbones.base import Hierarchy
from jebm.models.likelihoods.base import Likelihood


def in_bfloat16(module: nn.Module) -> None:
    """Let the networks in a module compute in bfloat16 while their weights require gradients; outputs are float32."""
    for network in networks(module):
        network.forward = _autocast(network, network.forward)


def networks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost submodules that define ``forward``, except likelihoods."""
    for child in module.children():
        if isinstance(child, Likelihood):
            continue
        if isinstance(child, nn.ModuleList | nn.ModuleDict) or type(child).forward is nn.Module.forward:
            yield from networks(child)
        else:
            yield child


def _autocast(network: nn.Module, forward: Callable) -> Callable:
    def wrapped(x: torch.Tensor) -> torch.Tensor:
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in network.parameters())
        if not learns:
            return forward(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return forward(x).float()

    return wrapped


def apply_layout_and_precision(hierarchy: Hierarchy, compute: Compute) -> Hierarchy:
    """Set the memory layout and the precision that ``compute`` asks for; returns the hierarchy."""
    for layer in hierarchy.modules() if compute.channels_last else ():
        if type(layer) in (nn.Conv2d, nn.ConvTranspose2d):
            layer.to(memory_format=torch.channels_last)
    if compute.precision == "bf16":
        in_bfloat16(hierarchy)
    return hierarchy
