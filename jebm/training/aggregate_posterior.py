"""Draws of the inference network at training images, stored as a prior."""

import torch

from jebm.config.training import TrainPrior
from jebm.data.batches import Pixels
from jebm.models.backbones.base import Hierarchy, flatten
from jebm.models.priors.aggregate_posterior import AggregatePosterior
from jebm.training.run import TrainingResult, TrainingRun


@torch.no_grad()
def posterior_draws(
    hierarchy: Hierarchy, pixels: Pixels, draws: int, rng: torch.Generator, images: int | None = None
) -> torch.Tensor:
    """Draws of q(ε | x) for each image, flat ε (draws × images, dimensions) on the CPU: a draw for each image, then
    another for each.

    Args:
        images: largest number of images, chosen at random; None takes all.
    """
    chosen = torch.arange(len(pixels))
    if images is not None and images < len(pixels):
        chosen = torch.randperm(len(pixels), generator=rng, device=rng.device)[:images].sort().values.cpu()
    rows = [flatten(hierarchy.infer(pixels[part], rng).eps).cpu() for _ in range(draws) for part in chosen.split(2000)]
    return torch.cat(rows)


def fit(prior: AggregatePosterior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun) -> TrainingResult:
    """Store draws at the training images. Nothing is learned, so ``settings`` are not used."""
    rows = posterior_draws(prior.hierarchy, data["train"], prior.draws, run.rng, prior.images)
    prior.set(rows)
    return TrainingResult([{"draws": len(rows)}], {"draws": len(rows), "parameters": 0})
