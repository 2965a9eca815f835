"""Selection of the final weights of normalised priors by the validation split."""

import torch

from jebm.data.batches import Pixels
from jebm.models.priors.base import Prior
from jebm.sampling.partition import tilts
from jebm.training.aggregate_posterior import posterior_draws


class HeldOutTilt:
    """G = E_q[tilt(ε)] on the validation images, nats per image: by how much the bound on log p(x) exceeds that of the
    Gaussian prior, for a prior with Z = 1. The posterior draws are drawn once.

    Args:
        pixels: validation images (count, *image_shape) in [−1, 1].
        every: number of training steps between two computations.
        draws: number of posterior draws per image.
        rng: for these draws.
    """

    def __init__(self, prior: Prior, pixels: Pixels, every: int, draws: int, rng: torch.Generator):
        self.prior, self.every = prior, every
        self.eps = posterior_draws(prior.hierarchy, pixels, draws, rng).to(rng.device)

    def __call__(self) -> torch.Tensor:
        """G under the present weights, a scalar."""
        return tilts(self.prior, self.eps).mean()
