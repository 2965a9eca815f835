"""KL balancing between the layers of a hierarchy (Vahdat and Kautz, 2020, section 3.2 and appendix A).

During the KL warm-up, the KL weight of layers with much KL is raised and that of layers with little KL is lowered, so
that no layer is switched off before it has learned anything. The KL is compared with the size of the layer: its number
of latent dimensions, or NVAE's measure, which penalises coarse scales less because their layers are few and small.
"""

import math
from collections.abc import Sequence

import torch

DIMENSION_OFFSET, SCALE_OFFSET = 0.1, 0.01


def layer_sizes(shapes: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """NVAE's size of each layer, (layers,): the pixels of its feature map divided by the number of layers at that
    scale, normalised so that the smallest is 1 (Vahdat and Kautz, 2020, appendix A).

    Args:
        shapes: shapes of the latents without the batch dimension; a vector counts as one pixel.
    """
    pixels = [math.prod(shape[1:]) for shape in shapes]
    sizes = torch.tensor([count / pixels.count(count) for count in pixels], dtype=torch.float64)
    return sizes / sizes.min()


def by_dimension(kl: torch.Tensor, dims: torch.Tensor) -> torch.Tensor:
    """Factor of each layer's KL weight, (layers,), with mean 1: proportional to (mean KL + 0.1) / dimensions.

    Args:
        kl: mean KL of each layer, (layers,), nats.
        dims: latent dimensions of each layer.
    """
    return _balance(kl + DIMENSION_OFFSET, dims)


def by_scale(kl: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Factor γ of each layer's KL weight, (layers,), with mean 1: proportional to (mean |KL| + 0.01) / α.

    Args:
        kl: mean |KL| of each layer, (layers,), nats; estimates from single draws may be negative.
        sizes: α, from :func:`layer_sizes`.
    """
    return _balance(kl + SCALE_OFFSET, sizes)


def _balance(kl: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    factors = kl.detach() / sizes.to(kl)
    return factors / factors.mean()
