"""Half precision for networks that learn: matrix products and convolutions in bfloat16, everything around them in fp32.

Only the networks of a hierarchy are touched, and only while their weights require gradients. So chains, which run on
frozen weights, energies and log densities are computed in fp32, and so is every evaluation.
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from jebm.config.schema import Compute
from jebm.models.backbones.base import Hierarchy
from jebm.models.likelihoods.base import Likelihood


def in_bfloat16(module: nn.Module) -> None:
    """Let the networks inside a module compute in bfloat16 wherever their weights learn; they put out fp32."""
    for network in networks(module):
        network.forward = _autocast(network, network.forward)


def networks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules inside that can be called and turn tensors into tensors."""
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
    """The hierarchy in the layout and precision that ``compute`` asks for."""
    for layer in hierarchy.modules() if compute.channels_last else ():
        if type(layer) in (nn.Conv2d, nn.ConvTranspose2d):
            layer.to(memory_format=torch.channels_last)
    if compute.precision == "bf16":
        in_bfloat16(hierarchy)
    return hierarchy
