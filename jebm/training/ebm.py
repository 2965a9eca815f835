"""Stage 2: the energies by maximum likelihood on a frozen backbone (arXiv 2306.06323, eq. 9, section 3.2)."""

from collections.abc import Callable
from functools import partial

import torch

from jebm.config.training import TrainingChain, TrainPrior
from jebm.data.batches import Pixels
from jebm.models.backbones.base import Hierarchy, flatten
from jebm.models.nets import frozen
from jebm.models.priors.base import EnergyPrior
from jebm.models.priors.joint import JointPrior
from jebm.runtime.distributed import ranks
from jebm.runtime.progress import say
from jebm.sampling.adaptation import AdaptiveKernel
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import SPACES
from jebm.training.loop import CarryingLoss, Fitted, Loss, Trainer, carried_by, run_to_the_end
from jebm.training.state import StateFile


def contrastive_loss(prior: JointPrior, pixels: Pixels, settings: TrainPrior, generator: torch.Generator) -> Loss:
    """Descends E[f(z⁻)] − E[f(z⁺)]: z⁺ from q(z | x), z⁻ from a chain on the prior.

    ``energy_gap`` is E[f(z⁺)] − E[f(z⁻)], nats: near 0 at the optimum, large and growing when the chain lags behind.
    A chain that adapts its step size reports it as ``step_size``, and the loss carries it.
    """
    adaptive, hierarchy = adaptive_kernel(settings), prior.hierarchy
    space = SPACES[settings.chain.space](hierarchy, prior)
    target = space.target(settings.chain.gradients)

    def loss(step: int, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with torch.no_grad():
            positive = flatten(hierarchy.infer(pixels[batch], generator).eps)
        with frozen(prior):
            start = space.start(settings.chain.start, len(positive), generator)
            chain = run_chain(adaptive.kernel, target, start, settings.chain.steps, generator)
        size = adapt(adaptive, chain.acceptance)
        each_positive, each_negative = prior.tilt(positive), space.tilt(chain.x)
        f_positive, f_negative = each_positive.mean(), each_negative.mean()
        gap = f_positive - f_negative
        penalty = energy_penalty(settings.energy_l2, each_positive, each_negative)
        return penalty - gap, {
            "energy_gap": gap,
            "f_posterior": f_positive,
            "f_prior": f_negative,
            "acceptance": chain.acceptance,
            **size,
        }

    return carrying(loss, adaptive)


def adaptive_kernel(settings: TrainPrior) -> AdaptiveKernel:
    """The kernel of the training chain, with its adaptation if it has one."""
    kernel, adaptation = settings.chain.kernel, settings.chain.adapt
    if adaptation is None:
        return AdaptiveKernel(kernel)
    # The chain runs once for each part of a batch.
    return AdaptiveKernel(kernel, adaptation.target_acceptance, adaptation.steps * settings.accumulate)


def adapt(kernel: AdaptiveKernel, acceptance: torch.Tensor) -> dict[str, torch.Tensor]:
    """Let a kernel see the acceptance of a run; for the history, the step size of that run if there is a choice."""
    used = {"step_size": acceptance.new_tensor(kernel.step_size)} if kernel.adapts else {}
    kernel.observe(*ranks().average([acceptance.detach().clone()]))
    return used


def carrying(loss: Loss, kernel: AdaptiveKernel) -> Loss:
    """The loss, and with it the kernel if that adapts: part of the training state under ``carried``."""
    return CarryingLoss(loss, {"kernel": kernel}) if kernel.adapts else loss


def energy_penalty(weight: float, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor | float:
    """weight · (E[f(z⁺)²] + E[f(z⁻)²]) for f at draws of posterior and prior, (batch,); 0 without a weight."""
    return weight * (positive.square().mean() + negative.square().mean()) if weight else 0.0


def stable_scales(hierarchy: Hierarchy, chains: dict[str, TrainingChain | None]) -> dict:
    """For the record: how narrow p(z_i | z_{>i}) may become, and below which σ a chain in the space of z is unstable.

    Unadjusted Langevin of step s on N(μ, σ²) multiplies z − μ by 1 − s²/(2σ²) a step, so it needs σ > s/2. A floor
    below that is said aloud, since a run may then diverge however long it has gone well.
    """
    facts = {}
    for key, chain in chains.items():
        if chain is None or chain.space != "z" or chain.kernel.adjusted:
            continue
        bound = chain.kernel.step_size / 2
        facts |= {"sigma_floor": hierarchy.sigma_floor, f"{key}_stable_above_sigma": bound}
        if hierarchy.sigma_floor < bound:
            say(
                f"note: {key}: unadjusted steps of {chain.kernel.step_size} in the space of z are stable only while "
                f"σ > {bound:g}, and the backbone's σ may fall to {hierarchy.sigma_floor:.3g}"
            )
    return facts


def fit_energies(
    objective: Callable[..., Loss],
    hierarchy: Hierarchy,
    prior: EnergyPrior,
    pixels: dict[str, Pixels],
    settings: TrainPrior,
    generator: torch.Generator,
    state: StateFile,
    checkpoint_seconds: float,
    title: str,
) -> Fitted:
    """Learn the energies by ``objective(prior, images, settings, generator)``.

    Raises:
        DivergedError: training diverged, and the settings don't say that it may.
    """
    prior.initialise(generator)
    for parameter in hierarchy.parameters():
        parameter.requires_grad_(False)
    loss = objective(prior, pixels["train"], settings, generator)
    count, carried = len(pixels["train"]), carried_by(loss)
    trainer = Trainer(
        prior,
        loss,
        settings,
        count,
        generator,
        state,
        checkpoint_seconds,
        title,
        limit=settings.largest_gap,
        carried=carried,
    )
    scales = stable_scales(hierarchy, {"chain": settings.chain})
    diverged = run_to_the_end(trainer, settings.may_diverge)
    size = {"step_size": carried["kernel"].step_size} if "kernel" in carried else {}
    facts = {"steps": trainer.step, **trainer.facts, **diverged, **scales, **size}
    return Fitted(trainer.history or [{"step": trainer.step}], facts, trainer.snapshots)


fit = partial(fit_energies, contrastive_loss)
