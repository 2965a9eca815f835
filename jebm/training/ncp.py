"""Noise-contrastive training of a prior: a classifier between the aggregate posterior and the base of the prior, such
as N(0, I) (Aneja et al., 2021).

It runs no chain; of ``train_prior`` only the keys of the optimiser, and ``select``, are used.
"""

import torch
from torch.nn.functional import softplus

from jebm.config.training import TrainPrior
from jebm.data.batches import Pixels
from jebm.models.priors.ncp import NoiseContrastivePrior
from jebm.training.ebm import fit_energies
from jebm.training.loss import Loss, Scalars
from jebm.training.run import TrainingResult, TrainingRun


class LogisticLoss(Loss):
    """Minimises −E_q[log σ(f)] − E_{p_0}[log(1 − σ(f))] with equally many draws from q(ε | x) and from the base p_0.

    In nats; 2 log 2 if the two can't be distinguished. ``accuracy`` is the fraction of correctly classified draws.
    """

    def __init__(self, prior: NoiseContrastivePrior, pixels: Pixels, settings: TrainPrior, rng: torch.Generator):
        super().__init__(len(pixels))
        self.prior, self.pixels, self.rng = prior, pixels, rng

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        with torch.no_grad():
            posterior = self.prior.hierarchy.infer(self.pixels[batch], self.rng)
            noise = self.prior.hierarchy.top_down_flat(self.prior.base.sample(len(batch), self.rng))
        f_positive, f_noise = self.prior.energy(posterior.top), self.prior.energy(noise)
        right = torch.cat([f_positive > 0, f_noise <= 0]).float().mean()
        scalars = {"accuracy": right, "f_posterior": f_positive.mean(), "f_prior": f_noise.mean()}
        return softplus(-f_positive).mean() + softplus(f_noise).mean(), scalars


def fit(
    prior: NoiseContrastivePrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun
) -> TrainingResult:
    """Train the energies of the prior as the log odds of a classifier."""
    return fit_energies(LogisticLoss, prior, data, settings, run)
