"""Recalibration of the decoder's batch norm: its running statistics are replaced by those of draws from the prior.

Training collects the statistics on draws from the posterior. Draws from the prior, in particular at a temperature below
1, have other statistics, and samples are worse with those of training. Vahdat and Kautz (2020) recalibrate in the same
way. It is a separate step because samples depend on it and on its random numbers.
"""

from collections.abc import Iterable, Iterator

import torch

from jebm.models.backbones.base import Hierarchy, Latents


@torch.no_grad()
def recalibrate(hierarchy: Hierarchy, passes: int, batch_size: int, temperature: float, rng: torch.Generator) -> None:
    """Sample the prior in training mode, which updates the running statistics of the decoder.

    The inference network is not run, so its statistics do not change. With the momentum of 0.05, about the last 60
    passes determine the statistics. The mode (training or evaluation) of the hierarchy is restored.

    Args:
        passes: number of passes.
        batch_size: images per pass.
        temperature: factor on ε of all layers; 1 is the prior itself.
        rng: generator of all random numbers.
    """
    update_statistics(hierarchy, _noise(hierarchy, passes, batch_size, temperature, rng))


@torch.no_grad()
def update_statistics(hierarchy: Hierarchy, noise: Iterable[Latents]) -> None:
    """Update the running statistics of the decoder by one pass for each ε, a tuple with the bottom layer first."""
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
