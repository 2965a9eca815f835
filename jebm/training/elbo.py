"""Stage 1: the evidence lower bound of the Gaussian hierarchy, with a KL weight for each layer."""

import torch

from jebm.config.training import TrainBackbone
from jebm.data.batches import Pixels, batches
from jebm.models.backbones.base import Hierarchy
from jebm.runtime.distributed import ranks
from jebm.training.kl_balance import balance, layer_sizes
from jebm.training.loop import CarryingLoss, Loss
from jebm.training.regularisation import Penalty
from jebm.training.schedules import kl_balance, kl_weights, layer_ramps


def elbo_loss(hierarchy: Hierarchy, pixels: Pixels, settings: TrainBackbone, generator: torch.Generator) -> Loss:
    """−ELBO = E_q[−log p(x | z)] + Σ_i w_i(step) KL_i, a mean over the batch, nats (arXiv 2306.06323, eq. 5).

    Args:
        pixels: training images (count, *image_shape) in [−1, 1].
        settings: its ``kl_warmup`` and ``kl_balance`` say how the weights rise to 1; its penalties are added.
    """
    penalty = Penalty(hierarchy, settings, generator)
    ramps = layer_ramps(settings.kl_warmup, hierarchy.layers)
    dims = torch.tensor(hierarchy.layer_dims, dtype=torch.float32, device=generator.device)
    sizes = layer_sizes(hierarchy.latent_shapes).to(dims)

    def loss(step: int, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x = pixels[batch]
        posterior = hierarchy.infer(x, generator)
        log_px = hierarchy.decode(posterior.top).log_prob(x).mean()
        kl = posterior.kl.mean(0)
        weights = kl_weights(step, settings.steps, ramps, settings.kl_floor)
        smallest, weights = float(weights.min()), weights.to(kl)  # asked before it is on the device
        held_down, norms = penalty(smallest)
        if settings.kl_balance and smallest < 1:
            absolute, signed = ranks().average([posterior.kl.detach().abs().mean(0), kl.detach().clone()])
            by_scale = settings.kl_balance == "scale"
            weights = weights * (balance(absolute[None], sizes) if by_scale else kl_balance(signed, dims))
        total = -log_px + (weights * kl).sum() + held_down
        scalars = {"log_px": log_px, "elbo": log_px - kl.sum()}
        return total, scalars | {f"kl_z{i + 1}": value for i, value in enumerate(kl)} | norms

    return CarryingLoss(loss, penalty.carried) if penalty.carried else loss


@torch.no_grad()
def validation_bound(hierarchy: Hierarchy, pixels: Pixels, generator: torch.Generator) -> dict:
    """For the record: the bound of the Gaussian hierarchy and each layer's KL on held-out images, nats."""
    hierarchy.eval()
    bounds, divergences = [], []
    for x in batches(pixels, hierarchy.rows_at_once()):
        posterior = hierarchy.infer(x, generator)
        bounds.append(hierarchy.decode(posterior.top).log_prob(x) - posterior.kl.sum(1))
        divergences.append(posterior.kl)
    return {
        "validation_elbo": float(torch.cat(bounds).mean()),
        "validation_kl": [float(value) for value in torch.cat(divergences).mean(0)],
    }
