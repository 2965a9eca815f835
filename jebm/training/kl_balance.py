"""KL balancing between the layers of a hierarchy (Vahdat and Kautz, 2020, section 3.2 and appendix A).

While the KL is not yet fully weighed, busy layers pay more for it and idle ones less, so that none is switched off
before it has learned anything. How busy a layer is, is its KL in proportion to its size: the number of its latent
dimensions, or NVAE's measure, by which coarse scales, whose layers are few and small, pay less.
"""

import math
from collections.abc import Sequence

import torch

DIMENSION_OFFSET, SCALE_OFFSET = 0.1, 0.01


def layer_sizes(shapes: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """What a layer may carry beside the others, (layers,): the pixels of its maps over the number of layers at that
    scale, and 1 for the smallest. A scale's layers share its size between them (Vahdat and Kautz, 2020, appendix A).

    Args:
        shapes: of the latents, without the batch; a vector has one pixel.
    """
    pixels = [math.prod(shape[1:]) for shape in shapes]
    sizes = torch.tensor([count / pixels.count(count) for count in pixels], dtype=torch.float64)
    return sizes / sizes.min()


def by_dimension(kl: torch.Tensor, dims: torch.Tensor) -> torch.Tensor:
    """Factor of each layer, (layers,), mean 1: in proportion to (mean KL + 0.1) / dimensions.

    Args:
        kl: mean KL of each layer, (layers,), nats.
        dims: latent dimensions of each layer.
    """
    return _balance(kl + DIMENSION_OFFSET, dims)


def by_scale(kl: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Factor γ of each layer, (layers,), mean 1: in proportion to (mean |KL| + 0.01) / α.

    Args:
        kl: mean |KL| of each layer, (layers,), nats; estimates from single draws may be negative.
        sizes: α, of :func:`layer_sizes`.
    """
    return _balance(kl + SCALE_OFFSET, sizes)


def _balance(kl: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    factors = kl.detach() / sizes.to(kl)
    return factors / factors.mean()
