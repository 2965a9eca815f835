"""Stage 2: the energies by maximum likelihood on a frozen backbone (arXiv 2306.06323, eq. 9, section 3.2)."""

from collections.abc import Callable
from functools import partial

import torch

from jebm.config import TrainPrior
from jebm.data.pixels import Pixels
from jebm.errors import DivergedError
from jebm.models.hierarchy import Hierarchy, flatten
from jebm.models.nets import frozen
from jebm.models.priors import EnergyPrior, JointPrior
from jebm.progress import say
from jebm.registry import build
from jebm.sampling.run import run_chain
from jebm.sampling.target import Target
from jebm.training.loop import Loss, Trainer
from jebm.training.state import StateFile

LIMIT = 1e4
"""Energy gap, nats, beyond which training has diverged: it is near 1 in a healthy run, and where the chains have lost
the density it grows by orders of magnitude within a few steps, long before anything overflows."""


def contrastive_loss(prior: JointPrior, pixels: Pixels, settings: TrainPrior, generator: torch.Generator) -> Loss:
    """Descends E[f(z⁻)] − E[f(z⁺)]: z⁺ from q(z | x), z⁻ from a chain on the prior that starts from the Gaussian one.

    ``energy_gap`` is E[f(z⁺)] − E[f(z⁻)], nats: near 0 at the optimum, large and growing when the chain lags behind.
    """
    kernel = build("kernel", settings.chain.kernel)
    target, hierarchy = Target(prior.tilt), prior.hierarchy

    def loss(step: int, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with torch.no_grad():
            positive = flatten(hierarchy.infer(pixels[batch], generator).eps)
        start = torch.randn(positive.shape, generator=generator, device=positive.device)
        with frozen(prior):
            chain = run_chain(kernel, target, start, settings.chain.steps, generator)
        f_positive, f_negative = prior.tilt(positive).mean(), prior.tilt(chain.x).mean()
        gap = f_positive - f_negative
        return -gap, {
            "energy_gap": gap,
            "f_posterior": f_positive,
            "f_prior": f_negative,
            "acceptance": chain.acceptance,
        }

    return loss


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
) -> tuple[list[dict], dict]:
    """Learn the energies by ``objective(prior, images, settings, generator)``; history, and facts for the record.

    Raises:
        DivergedError: training diverged, and the settings don't say that it may.
    """
    prior.initialise(generator)
    for parameter in hierarchy.parameters():
        parameter.requires_grad_(False)
    loss = objective(prior, pixels["train"], settings, generator)
    count = len(pixels["train"])
    trainer = Trainer(prior, loss, settings, count, generator, state, checkpoint_seconds, title, limit=LIMIT)
    diverged = {}
    try:
        trainer.run()
    except DivergedError as error:
        if not settings.may_diverge:
            raise
        say(f"{error}; train_prior.may_diverge: publishing the weights of step {trainer.step}")
        trainer.use_average()
        diverged = {"diverged_at": trainer.step + 1}
    facts = {"steps": trainer.step, "seconds": round(trainer.seconds, 1), **diverged}
    return trainer.history or [{"step": trainer.step}], facts


fit = partial(fit_energies, contrastive_loss)
