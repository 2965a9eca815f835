"""Training of a recovery prior: each level by the likelihood of its latents given those of the next level."""

import torch

from jebm.config.training import TrainPrior
from jebm.data.batches import Pixels
from jebm.models.backbones.base import flatten
from jebm.models.priors.recovery import RecoveryPrior
from jebm.sampling.samplers.levels import recover
from jebm.training.ebm import EstimatorLoss, fit_energies
from jebm.training.loss import Scalars
from jebm.training.run import TrainingResult, TrainingRun


class RecoveryLoss(EstimatorLoss):
    """Minimises Σ_t E[f_t(ε_t⁻)] − E[f_t(ε_t⁺)], with ε_0⁺ from q(ε | x) and ε_{t+1}⁺ = a_t ε_t⁺ + s_t ξ.

    ε_t⁻ comes from a chain on the conditional of level t given ε_{t+1}⁺, started at N(0, I). Its density is close to a
    normal if the noise is small, so that a short chain reaches it. The levels share no parameters.

    ``gap_level_0``, … are E[f_t⁺] − E[f_t⁻] per level in nats, and ``energy_gap`` is their sum.
    """

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        prior, short_run = self.prior, self.estimator
        with torch.no_grad():
            eps = flatten(prior.hierarchy.infer(self.pixels[batch], self.rng).eps)
        gaps, acceptance = {}, []
        for level in range(prior.levels):
            noise = torch.randn(eps.shape, generator=self.rng, device=eps.device)
            above = prior.at(level, eps, noise)  # the same factors as on the way back
            negative, chain = recover(prior, level, above, short_run.kernel.kernel, short_run.steps, self.rng)
            gaps[f"gap_level_{level}"] = prior.tilt_at(level, eps).mean() - prior.tilt_at(level, negative).mean()
            acceptance.append(chain.acceptance)
            eps = above
        gap, accepted = sum(gaps.values()), torch.stack(acceptance).mean()
        return -gap, {"energy_gap": gap, **gaps, "acceptance": accepted, **short_run.adapt(accepted)}


def fit(prior: RecoveryPrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun) -> TrainingResult:
    """Train the energies of all levels at once; ``select`` looks at the density of level 0 alone."""
    return fit_energies(RecoveryLoss, prior, data, settings, run)
