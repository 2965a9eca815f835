"""Stage 2: training of the energies by maximum likelihood on a frozen backbone (arXiv 2306.06323, eq. 9, section
3.2)."""

from collections.abc import Callable

import torch

from jebm.config.training import TrainingChain, TrainPrior
from jebm.data.batches import Pixels
from jebm.models.backbones.base import Hierarchy, flatten
from jebm.models.nets import frozen
from jebm.models.priors.base import EnergyPrior
from jebm.models.priors.ebm import JointPrior
from jebm.runtime.distributed import ranks
from jebm.runtime.progress import log
from jebm.sampling.adaptation import AdaptiveKernel
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import SPACES
from jebm.training.finite import Divergence
from jebm.training.loop import Trainer
from jebm.training.loss import Loss, Scalars
from jebm.training.run import TrainingResult, TrainingRun


class ChainLoss(Loss):
    """A loss whose negative samples come from a Markov chain on the prior, whose step size may be adapted.

    Args:
        pixels: training images (count, *image_shape) in [−1, 1].
        settings: ``chain`` describes the chain that draws the negative samples.
        rng: for the draws from q(z | x) and for the chain.
    """

    def __init__(self, prior: EnergyPrior, pixels: Pixels, settings: TrainPrior, rng: torch.Generator):
        super().__init__(len(pixels))
        self.prior, self.pixels, self.settings, self.rng = prior, pixels, settings, rng
        self.kernel = AdaptiveKernel(settings.chain.kernel)
        if adaptation := settings.chain.adapt:
            runs = adaptation.steps * settings.accumulate  # the chain runs once per micro-batch
            self.kernel = AdaptiveKernel(settings.chain.kernel, adaptation.target_acceptance, runs)

    def adapt(self, acceptance: torch.Tensor) -> Scalars:
        """Adapt the step size to the acceptance rate of a run of the chain. Returns the step size of that run for the
        history, if it adapts."""
        used = {"step_size": acceptance.new_tensor(self.kernel.step_size)} if self.kernel.adapts else {}
        self.kernel.observe(*ranks().average([acceptance.detach().clone()]))
        return used

    def state_dict(self) -> dict:
        return self.kernel.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.kernel.load_state_dict(state)

    def facts(self) -> dict:
        return {"step_size": self.kernel.step_size} if self.kernel.adapts else {}


class ContrastiveLoss(ChainLoss):
    """Minimises E[f(z⁻)] − E[f(z⁺)] with z⁺ from q(z | x) and z⁻ from a chain on the prior.

    The logged ``energy_gap`` is E[f(z⁺)] − E[f(z⁻)] in nats. It is near 0 at the optimum, and large and growing when
    the chain no longer follows the density.
    """

    def __init__(self, prior: JointPrior, pixels: Pixels, settings: TrainPrior, rng: torch.Generator):
        super().__init__(prior, pixels, settings, rng)
        self.space = SPACES[settings.chain.space](prior.hierarchy, prior)
        self.target = self.space.target(settings.chain.gradients)

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        chain = self.settings.chain
        with torch.no_grad():
            positive = flatten(self.prior.hierarchy.infer(self.pixels[batch], self.rng).eps)
        with frozen(self.prior):
            start = self.space.start(chain.start, len(positive), self.rng)
            negative = run_chain(self.kernel.kernel, self.target, start, chain.steps, self.rng)
        step_size = self.adapt(negative.acceptance)
        each_positive, each_negative = self.prior.tilt(positive), self.space.tilt(negative.x)
        f_positive, f_negative = each_positive.mean(), each_negative.mean()
        gap = f_positive - f_negative
        penalty = energy_penalty(self.settings.energy_l2, each_positive, each_negative)
        return penalty - gap, {
            "energy_gap": gap,
            "f_posterior": f_positive,
            "f_prior": f_negative,
            "acceptance": negative.acceptance,
            **step_size,
        }


def energy_penalty(weight: float, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor | float:
    """weight · (E[f(z⁺)²] + E[f(z⁻)²]) for the values of f at draws from posterior and prior, both (batch,); 0 if the
    weight is 0."""
    return weight * (positive.square().mean() + negative.square().mean()) if weight else 0.0


def stability_facts(hierarchy: Hierarchy, chains: dict[str, TrainingChain | None]) -> dict:
    """For the record: the lower bound of σ(z_i | z_{>i}), and the σ below which a chain in the space of z is unstable.

    Unadjusted Langevin with step size s on N(μ, σ²) multiplies z − μ by 1 − s²/(2σ²) per step, so it is stable only if
    σ > s/2. A backbone whose σ may fall below that is reported, because training may diverge at any time.
    """
    facts = {}
    for key, chain in chains.items():
        if chain is None or chain.space != "z" or chain.kernel.adjusted:
            continue
        bound = chain.kernel.step_size / 2
        facts |= {"sigma_floor": hierarchy.sigma_floor, f"{key}_stable_above_sigma": bound}
        if hierarchy.sigma_floor < bound:
            log(
                f"note: {key}: unadjusted steps of {chain.kernel.step_size} in the space of z are stable only while "
                f"σ > {bound:g}, and the backbone's σ may fall to {hierarchy.sigma_floor:.3g}"
            )
    return facts


def fit_energies(
    loss_of: Callable[..., Loss], prior: EnergyPrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun
) -> TrainingResult:
    """Train the energies of a prior with the loss ``loss_of(prior, images, settings, rng)``.

    Raises:
        DivergedError: training diverged, and ``may_diverge`` is false.
    """
    prior.initialise(run.rng)
    prior.hierarchy.requires_grad_(False)
    loss = loss_of(prior, data["train"], settings, run.rng)
    divergence = Divergence(limit=settings.largest_gap, allowed=settings.may_diverge)
    trainer = Trainer(prior, loss, settings, run, divergence=divergence)
    scales = stability_facts(prior.hierarchy, {"chain": settings.chain})
    fitted = trainer.train()
    return fitted.with_facts({"steps": trainer.state.step, **scales})


def fit(prior: JointPrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun) -> TrainingResult:
    """Train the energies of a joint prior with draws from the posterior and from a chain on the prior."""
    return fit_energies(ContrastiveLoss, prior, data, settings, run)
