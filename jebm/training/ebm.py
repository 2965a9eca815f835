"""Stage 2: the energies by maximum likelihood on a frozen backbone (arXiv 2306.06323, eq. 9, section 3.2)."""

from collections.abc import Callable
from functools import partial

import torch

from jebm.config import TrainingChain, TrainPrior
from jebm.data.pixels import Pixels
from jebm.models.hierarchy import Hierarchy, flatten
from jebm.models.nets import frozen
from jebm.models.priors import EnergyPrior, JointPrior
from jebm.progress import say
from jebm.registry import build
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import SPACES
from jebm.training.loop import Fitted, Loss, Trainer, run_to_the_end
from jebm.training.state import StateFile

LIMIT = 1e4
"""Energy gap, nats, beyond which training has diverged: it is near 1 in a healthy run, and where the chains have lost
the density it grows by orders of magnitude within a few steps, long before anything overflows."""


def contrastive_loss(prior: JointPrior, pixels: Pixels, settings: TrainPrior, generator: torch.Generator) -> Loss:
    """Descends E[f(z⁻)] − E[f(z⁺)]: z⁺ from q(z | x), z⁻ from a chain on the prior.

    ``energy_gap`` is E[f(z⁺)] − E[f(z⁻)], nats: near 0 at the optimum, large and growing when the chain lags behind.
    """
    kernel, hierarchy = build("kernel", settings.chain.kernel), prior.hierarchy
    space = SPACES[settings.chain.space](hierarchy, prior)
    target = space.target(settings.chain.gradients)

    def loss(step: int, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with torch.no_grad():
            positive = flatten(hierarchy.infer(pixels[batch], generator).eps)
        with frozen(prior):
            start = space.start(settings.chain.start, len(positive), generator)
            chain = run_chain(kernel, target, start, settings.chain.steps, generator)
        each_positive, each_negative = prior.tilt(positive), space.tilt(chain.x)
        f_positive, f_negative = each_positive.mean(), each_negative.mean()
        gap = f_positive - f_negative
        penalty = energy_penalty(settings.energy_l2, each_positive, each_negative)
        return penalty - gap, {
            "energy_gap": gap,
            "f_posterior": f_positive,
            "f_prior": f_negative,
            "acceptance": chain.acceptance,
        }

    return loss


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
    count = len(pixels["train"])
    trainer = Trainer(prior, loss, settings, count, generator, state, checkpoint_seconds, title, limit=LIMIT)
    scales = stable_scales(hierarchy, {"chain": settings.chain})
    diverged = run_to_the_end(trainer, settings.may_diverge)
    facts = {"steps": trainer.step, "seconds": round(trainer.seconds, 1), **diverged, **scales}
    return Fitted(trainer.history or [{"step": trainer.step}], facts, trainer.snapshots)


fit = partial(fit_energies, contrastive_loss)
