"""Noise-contrastive learning of a prior: a classifier between the aggregate posterior and N(0, I) (Aneja et al., 2021).

No chain is run: of ``train_prior`` only the optimiser is used.
"""

from functools import partial

import torch
from torch.nn.functional import softplus

from jebm.config.training import TrainPrior
from jebm.data.batches import Pixels
from jebm.models.backbones.base import flatten
from jebm.models.priors.ncp import NoiseContrastivePrior
from jebm.training.ebm import fit_energies
from jebm.training.loop import Loss


def logistic_loss(
    prior: NoiseContrastivePrior, pixels: Pixels, settings: TrainPrior, generator: torch.Generator
) -> Loss:
    """Descends −E_q[log σ(f)] − E_{N(0, I)}[log(1 − σ(f))]: as many draws of q(ε | x) as of noise.

    Nats; 2 log 2 where the two can't be told apart. ``accuracy`` is the fraction of both that is classified rightly.
    """
    hierarchy = prior.hierarchy

    def loss(step: int, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with torch.no_grad():
            positive = flatten(hierarchy.infer(pixels[batch], generator).eps)
        noise = torch.randn(positive.shape, generator=generator, device=positive.device)
        f_positive, f_noise = prior.tilt(positive), prior.tilt(noise)
        right = torch.cat([f_positive > 0, f_noise <= 0]).float().mean()
        scalars = {"accuracy": right, "f_posterior": f_positive.mean(), "f_prior": f_noise.mean()}
        return softplus(-f_positive).mean() + softplus(f_noise).mean(), scalars

    return loss


fit = partial(fit_energies, logistic_loss)
