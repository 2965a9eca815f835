"""KL balancing between the groups of a deep hierarchy (Vahdat and Kautz, 2020, section 3.2 and appendix A).

While the KL is not yet fully weighed, busy groups pay more for it and idle ones less, so that none is switched off
before it has learned anything. Coarse scales, whose groups are few and small, pay less.
"""

import math
from collections.abc import Sequence

import torch

OFFSET = 0.01


def layer_sizes(shapes: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """What a layer may carry beside the others, (layers,): the pixels of its maps over the number of layers at that
    scale, and 1 for the smallest. A scale's layers share its size between them (Vahdat and Kautz, 2020, appendix A).

    Args:
        shapes: of the latents, without the batch; a vector has one pixel.
    """
    pixels = [math.prod(shape[1:]) for shape in shapes]
    sizes = torch.tensor([count / pixels.count(count) for count in pixels], dtype=torch.float64)
    return sizes / sizes.min()


def balance(kl: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """γ of each layer, (layers,), mean 1, detached: in proportion to (mean |KL| + 0.01) / α.

    Args:
        kl: (batch, layers), nats; estimates from single draws may be negative.
        factors: α, of :func:`layer_sizes`.
    """
    gamma = (kl.detach().abs().mean(0) + OFFSET) / factors.to(kl)
    return gamma / gamma.mean()
