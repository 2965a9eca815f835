"""Stage 1: the evidence lower bound of the Gaussian hierarchy, with a KL weight for each layer."""

import torch

from jebm.models.hierarchy import Hierarchy
from jebm.training.loop import Loss
from jebm.training.schedules import kl_weights


def elbo_loss(
    hierarchy: Hierarchy, pixels: torch.Tensor, ramps: list[list[float]], steps: int, generator: torch.Generator
) -> Loss:
    """−ELBO = E_q[−log p(x | z)] + Σ_i w_i(step) KL_i, a mean over the batch, nats (arXiv 2306.06323, eq. 5).

    Args:
        pixels: training images (count, *image_shape) in [−1, 1].
        ramps: for each layer [start, end] of its KL weight's rise from 0 to 1, as fractions of ``steps``.
    """

    def loss(step: int, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x = pixels[batch]
        posterior = hierarchy.infer(x, generator)
        log_px = hierarchy.decode(hierarchy.transform(posterior.eps)).log_prob(x).mean()
        kl = posterior.kl.mean(0)
        total = -log_px + (kl_weights(step, steps, ramps).to(kl) * kl).sum()
        scalars = {"log_px": log_px, "elbo": log_px - kl.sum()}
        return total, scalars | {f"kl_z{i + 1}": value for i, value in enumerate(kl)}

    return loss
