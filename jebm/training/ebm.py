"""Stage 2: training of the energies by maximum likelihood on a frozen backbone (arXiv 2306.06323, eq. 9, section
3.2)."""

from collections.abc import Callable
from dataclasses import replace

import torch

from jebm.config.components import build, load
from jebm.config.training import TrainingChain, TrainPrior
from jebm.data.batches import Pixels
from jebm.models.backbones.base import Hierarchy, flatten
from jebm.models.priors.base import EnergyPrior
from jebm.models.priors.ebm import JointPrior
from jebm.runtime.progress import log
from jebm.runtime.random import derive_seed
from jebm.training.estimators.short_run import ShortRun
from jebm.training.finite import Divergence
from jebm.training.loop import Trainer
from jebm.training.loss import Loss, Scalars
from jebm.training.run import TrainingResult, TrainingRun
from jebm.training.selection import ValidationGain


class EstimatorLoss(Loss):
    """A loss whose negative phase an estimator computes.

    Args:
        pixels: training images (count, *image_shape) in [−1, 1].
        settings: ``estimator`` describes the estimator.
        rng: for the draws from q(z | x) and for the estimator.
    """

    def __init__(self, prior: EnergyPrior, pixels: Pixels, settings: TrainPrior, rng: torch.Generator):
        super().__init__(len(pixels))
        self.prior, self.pixels, self.settings, self.rng = prior, pixels, settings, rng
        self.estimator = build("estimator", settings.estimator, prior)
        self.lower_limits = dict([self.estimator.watched] if self.estimator.watched else [])

    def state_dict(self) -> dict:
        return self.estimator.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.estimator.load_state_dict(state)

    def facts(self) -> dict:
        return self.estimator.facts()


class LikelihoodLoss(EstimatorLoss):
    """Minimises E_p[f] − E_q[f], whose gradient is that of the negative log likelihood, with q(z | x) for the positive
    samples and an estimate of the gradient of log Z = E_p[∇f].

    The logged ``energy_gap`` is E_q[f] − E_p[f] in nats. It is near 0 at the optimum, and large and growing when the
    estimator no longer follows the density.
    """

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        with torch.no_grad():
            posterior = self.prior.hierarchy.infer(self.pixels[batch], self.rng)
        f = self.prior.energy(posterior.top)
        negative = self.estimator(flatten(posterior.eps), self.rng)
        gap = f.mean() - negative.mean
        scalars = {"energy_gap": gap, "f_posterior": f.mean(), "f_prior": negative.mean, **negative.scalars}
        return energy_penalty(self.settings.energy_l2, f, negative.f, negative.weights) - gap, scalars


def energy_penalty(
    weight: float, positive: torch.Tensor, negative: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor | float:
    """weight · (E[f(z⁺)²] + E[f(z⁻)²]) for the values of f at draws from posterior and prior, both (batch,); 0 if the
    weight is 0.

    Args:
        weights: weights of the negative samples, which sum to 1; None for equal ones.
    """
    if not weight:
        return 0.0
    squares = negative.square()
    return weight * (positive.square().mean() + (squares.mean() if weights is None else (weights * squares).sum()))


def stability_facts(hierarchy: Hierarchy, chains: dict[str, TrainingChain | ShortRun | None]) -> dict:
    """For the record: the lower bound of σ(z_i | z_{>i}), and the σ below which a chain in the space of z is unstable.

    Unadjusted Langevin with step size s on N(μ, σ²) multiplies z − μ by 1 − s²/(2σ²) per step, so it is stable only if
    σ > s/2. A backbone whose σ may fall below that is reported, because training may diverge at any time.
    """
    facts = {}
    for key, chain in chains.items():
        if chain is None or getattr(chain, "space", "whitened") != "z" or chain.kernel.adjusted:
            continue
        bound = chain.kernel.step_size / 2
        facts |= {"min_sigma": hierarchy.min_sigma, f"{key}_stable_above_sigma": bound}
        if hierarchy.min_sigma < bound:
            log(
                f"note: {key}: unadjusted steps of {chain.kernel.step_size} in the space of z are stable only while "
                f"σ > {bound:g}, and the backbone's σ may fall to {hierarchy.min_sigma:.3g}"
            )
    return facts


def fit_base(prior: EnergyPrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun) -> dict:
    """Fit the base and the proposal of a prior, where they are learned, on draws of the present inference network.
    Returns facts for the record."""
    facts = {}
    prior.hierarchy.eval()
    for name in ("base", "own_proposal"):
        part = getattr(prior, name, None)
        if part is not None and part.fit:
            title = f"{run.title}: {name.removeprefix('own_')}"
            # Random numbers of its own, so that training does not depend on how the base is fitted.
            rng = torch.Generator(run.rng.device).manual_seed(derive_seed(run.rng.initial_seed(), name))
            fitted = load(part.fit)(part, data, settings, replace(run, title=title, rng=rng))
            facts |= {f"{name.removeprefix('own_')}_{key}": value for key, value in fitted.facts.items()}
    return facts


def fit_energies(
    loss_of: Callable[..., Loss], prior: EnergyPrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun
) -> TrainingResult:
    """Fit base and proposal, then train the energies with the loss ``loss_of(prior, images, settings, rng)``.

    Raises:
        DivergedError: training diverged, and ``allow_divergence`` is false.
    """
    base = fit_base(prior, data, settings, run)
    prior.initialise(run.rng)
    prior.hierarchy.requires_grad_(False)
    loss = loss_of(prior, data["train"], settings, run.rng)
    selection = None
    if settings.select:
        rng = torch.Generator(run.rng.device).manual_seed(derive_seed(run.rng.initial_seed(), "selection"))
        selection = ValidationGain(prior, data["validation"], settings.select, rng)
    divergence = Divergence(limit=settings.max_energy_gap, allowed=settings.allow_divergence)
    trainer = Trainer(prior, loss, settings, run, divergence=divergence, selection=selection)
    scales = stability_facts(prior.hierarchy, {"estimator": settings.estimator})
    fitted = trainer.train()
    return fitted.with_facts({"steps": trainer.state.step, **base, **scales})


def fit(prior: JointPrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun) -> TrainingResult:
    """Train the energies of a joint prior with draws from the posterior and an estimator of the negative phase."""
    return fit_energies(LikelihoodLoss, prior, data, settings, run)
