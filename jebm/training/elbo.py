"""Stage 1: the evidence lower bound of the Gaussian hierarchy, with a KL weight for each layer."""

import torch

from jebm.config import TrainBackbone
from jebm.models.hierarchy import Hierarchy
from jebm.training.loop import Loss
from jebm.training.schedules import kl_balance, kl_weights, layer_ramps


def elbo_loss(hierarchy: Hierarchy, pixels: torch.Tensor, settings: TrainBackbone, generator: torch.Generator) -> Loss:
    """−ELBO = E_q[−log p(x | z)] + Σ_i w_i(step) KL_i, a mean over the batch, nats (arXiv 2306.06323, eq. 5).

    Args:
        pixels: training images (count, *image_shape) in [−1, 1].
        settings: its ``kl_warmup`` and ``kl_balance`` say how the weights rise to 1.
    """
    ramps = layer_ramps(settings.kl_warmup, hierarchy.layers)
    dims = torch.tensor(hierarchy.layer_dims, dtype=pixels.dtype, device=pixels.device)

    def loss(step: int, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x = pixels[batch]
        posterior = hierarchy.infer(x, generator)
        log_px = hierarchy.decode(posterior.top).log_prob(x).mean()
        kl = posterior.kl.mean(0)
        weights = kl_weights(step, settings.steps, ramps).to(kl)
        if settings.kl_balance and weights.min() < 1:
            weights = weights * kl_balance(kl.detach(), dims)
        total = -log_px + (weights * kl).sum()
        scalars = {"log_px": log_px, "elbo": log_px - kl.sum()}
        return total, scalars | {f"kl_z{i + 1}": value for i, value in enumerate(kl)}

    return loss


@torch.no_grad()
def validation_bound(hierarchy: Hierarchy, x: torch.Tensor, generator: torch.Generator) -> dict:
    """For the record: the bound of the Gaussian hierarchy and each layer's KL on held-out images, nats."""
    hierarchy.eval()
    log_px, kl = [], []
    for part in x.split(hierarchy.rows_at_once()):
        posterior = hierarchy.infer(part, generator)
        log_px.append(hierarchy.decode(posterior.top).log_prob(part))
        kl.append(posterior.kl)
    log_px, kl = torch.cat(log_px), torch.cat(kl)
    return {
        "validation_elbo": float((log_px - kl.sum(1)).mean()),
        "validation_kl": [float(value) for value in kl.mean(0)],
    }
