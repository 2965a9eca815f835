"""Stage 1: the evidence lower bound of the Gaussian hierarchy, with a KL weight for each layer."""

import torch

from jebm.config.training import TrainBackbone
from jebm.data.batches import Pixels, batches
from jebm.models.backbones.base import Hierarchy
from jebm.runtime.distributed import ranks
from jebm.training import kl_balance
from jebm.training.loss import Loss, Scalars
from jebm.training.regularisation import Penalty
from jebm.training.schedules import kl_weights, layer_ramps


class ElboLoss(Loss):
    """−ELBO = E_q[−log p(x | z)] + Σ_i w_i(step) KL_i, averaged over the batch, in nats (arXiv 2306.06323, eq. 5).

    Args:
        pixels: training images (count, *image_shape) in [−1, 1].
        settings: ``kl_warmup`` and ``kl_balance`` define the weights w_i; the penalties are added to the loss.
        rng: for the draws from q, and for the initial vectors of the spectral penalty.
    """

    def __init__(self, hierarchy: Hierarchy, pixels: Pixels, settings: TrainBackbone, rng: torch.Generator):
        super().__init__(len(pixels))
        self.hierarchy, self.pixels, self.settings, self.rng = hierarchy, pixels, settings, rng
        self.penalty = Penalty(hierarchy, settings, rng)
        self.ramps = layer_ramps(settings.kl_warmup, hierarchy.layers)
        self.dims = torch.tensor(hierarchy.layer_dims, dtype=torch.float32, device=rng.device)
        self.sizes = kl_balance.layer_sizes(hierarchy.latent_shapes).to(self.dims)

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        x = self.pixels[batch]
        posterior = self.hierarchy.infer(x, self.rng)
        log_px = self.hierarchy.decode(posterior.top).log_prob(x).mean()
        kl = posterior.kl.mean(0)
        weights = kl_weights(step, self.settings.steps, self.ramps, self.settings.min_kl_weight)
        smallest, weights = float(weights.min()), weights.to(kl)  # read on the CPU, without a transfer
        penalty, norms = self.penalty(smallest)
        if self.settings.kl_balance != "none" and smallest < 1:
            weights = weights * self._balance(posterior.kl)
        total = -log_px + (weights * kl).sum() + penalty
        scalars = {"log_px": log_px, "elbo": log_px - kl.sum()}
        return total, scalars | {f"kl_z{i + 1}": value for i, value in enumerate(kl)} | norms

    def _balance(self, kl: torch.Tensor) -> torch.Tensor:
        """Factor of each layer's KL weight, (layers,), from the KL (batch, layers). It is equal on all ranks."""
        size, mean = ranks().average([kl.detach().abs().mean(0), kl.detach().mean(0)])
        if self.settings.kl_balance == "scale":
            return kl_balance.by_scale(size, self.sizes)
        return kl_balance.by_dimension(mean, self.dims)

    def state_dict(self) -> dict:
        return self.penalty.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.penalty.load_state_dict(state)


@torch.no_grad()
def validation_bound(hierarchy: Hierarchy, pixels: Pixels, rng: torch.Generator) -> dict:
    """For the record: the ELBO of the Gaussian hierarchy and the KL of each layer on held-out images, in nats per
    image."""
    hierarchy.eval()
    bounds, divergences = [], []
    for x in batches(pixels, hierarchy.max_batch_size()):
        posterior = hierarchy.infer(x, rng)
        bounds.append(hierarchy.decode(posterior.top).log_prob(x) - posterior.kl.sum(1))
        divergences.append(posterior.kl)
    return {
        "validation_elbo": float(torch.cat(bounds).mean()),
        "validation_kl": [float(value) for value in torch.cat(divergences).mean(0)],
    }
