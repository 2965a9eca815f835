"""Training of a sequential prior: each term by maximum likelihood, conditional on the layers above."""

from functools import partial

import torch

from jebm.config.training import TrainPrior
from jebm.data.batches import Pixels
from jebm.models.nets import frozen
from jebm.models.priors.sequential import SequentialPrior
from jebm.sampling.run import run_chain
from jebm.sampling.target import Target
from jebm.training.ebm import EstimatorLoss, fit_energies
from jebm.training.loss import Scalars
from jebm.training.run import TrainingResult, TrainingRun


class LayerwiseLoss(EstimatorLoss):
    """Minimises Σ_i E[f_i(ε_i⁻ | ε_{>i}⁺)] − E[f_i(ε_i⁺ | ε_{>i}⁺)] with ε⁺ from q(ε | x).

    ε_i⁻ comes from a chain on ε_i alone, started at N(0, I), while the layers above keep their posterior draws. The
    terms share no parameters, so a step on their sum is a step on each of them; only a limit on the gradient norm
    couples them. All layers use one step size, which is adapted to their mean acceptance rate.

    ``gap_z1``, … are E[f_i⁺] − E[f_i⁻] per layer in nats, and ``energy_gap`` is their sum.
    """

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        with torch.no_grad():
            posterior = self.prior.hierarchy.infer(self.pixels[batch], self.rng)
        short_run, gaps, acceptance = self.estimator, {}, []
        for number in map(int, self.prior.energy.nets):
            above = posterior.top.above(number)
            tilt = partial(self.prior.layer_tilt, above)
            positive = posterior.eps[number - 1].flatten(1)
            start = torch.randn(positive.shape, generator=self.rng, device=positive.device)
            with frozen(self.prior):
                chain = run_chain(short_run.kernel.kernel, Target(tilt), start, short_run.steps, self.rng)
            gaps[f"gap_z{number}"] = tilt(positive).mean() - tilt(chain.x).mean()
            acceptance.append(chain.acceptance)
        gap, accepted = sum(gaps.values()), torch.stack(acceptance).mean()
        return -gap, {"energy_gap": gap, **gaps, "acceptance": accepted, **short_run.adapt(accepted)}


def fit(prior: SequentialPrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun) -> TrainingResult:
    """Train the terms of all layers at once, each with its own chain."""
    return fit_energies(LayerwiseLoss, prior, data, settings, run)
