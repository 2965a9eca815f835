"""Batch-norm statistics of the decoder, drawn anew from the prior.

In training they were gathered on draws of the posterior. Draws of the prior, at a temperature below 1 in particular,
have other statistics, and images sampled with the old ones look worse. This is a step of its own, since samples depend
on it and on its random stream.
"""

from collections.abc import Iterable, Iterator

import torch

from jebm.models.backbones.base import Hierarchy, Latents


@torch.no_grad()
def recalibrate(hierarchy: Hierarchy, passes: int, batch_size: int, temperature: float, rng: torch.Generator) -> None:
    """Sample the prior in training mode, so that the decoder's running statistics become those of its draws.

    Only the generator is run, so only its statistics move, each pass by the momentum 0.05: the last 60 passes or so
    count. The mode (training or evaluation) is left as it was.

    Args:
        passes: of sampling.
        batch_size: images a pass.
        temperature: factor on ε of all layers; 1 is the prior itself.
        generator: all randomness.
    """
    update_statistics(hierarchy, _noise(hierarchy, passes, batch_size, temperature, rng))


@torch.no_grad()
def update_statistics(hierarchy: Hierarchy, noise: Iterable[Latents]) -> None:
    """Let the decoder's statistics follow passes from given ε, one tuple (bottom first) a pass."""
    training = hierarchy.training
    hierarchy.train()
    try:
        for eps in noise:
            hierarchy.decode(hierarchy.top_down(eps))
    finally:
        hierarchy.train(training)


def _noise(
    hierarchy: Hierarchy, passes: int, batch_size: int, temperature: float, rng: torch.Generator
) -> Iterator[Latents]:
    like = next(hierarchy.parameters())
    for _ in range(passes):
        flat = torch.randn(batch_size, hierarchy.dimensions, generator=rng, device=like.device, dtype=like.dtype)
        yield hierarchy.split(temperature * flat)
