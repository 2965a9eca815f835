"""Fitting the flow prior by maximum likelihood on draws of the inference network."""

from dataclasses import replace

import torch

from jebm.config.training import Optimisation, TrainPrior
from jebm.data.batches import Pixels
from jebm.models.backbones.base import flatten
from jebm.models.priors.flow import FlowPrior
from jebm.runtime.random import derive_seed
from jebm.training.held_out import HeldOutTilt
from jebm.training.loop import Trainer
from jebm.training.loss import Loss, Scalars
from jebm.training.run import TrainingResult, TrainingRun
from jebm.training.state import StateFile

SELECTIONS = 20
"""Number of times that the validation split is looked at."""


class FlowLoss(Loss):
    """−E_q[tilt(ε)], nats: the negative log likelihood of posterior draws, less that of N(0, I)."""

    def __init__(self, prior: FlowPrior, pixels: Pixels, rng: torch.Generator):
        super().__init__(len(pixels))
        self.prior, self.pixels, self.rng = prior, pixels, rng

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        with torch.no_grad():
            eps = flatten(self.prior.hierarchy.infer(self.pixels[batch], self.rng).eps)
        return -self.prior.tilt(eps).mean(), {}


def fit(prior: FlowPrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun) -> TrainingResult:
    """Train the flow with its own settings; ``settings`` are not used, as it may be a part of another prior."""
    prior.hierarchy.requires_grad_(False)
    prior.initialise(run.rng)
    own = Optimisation(
        steps=prior.steps,
        batch_size=prior.batch_size,
        learning_rate=prior.learning_rate,
        warmup_steps=min(50, prior.steps // 10),
        clip_gradient_norm=10.0,
        ema=0.98,
    )
    # A file of its own, since the prior whose part the flow may be has one too.
    file = StateFile(run.file.path.parent / f"flow-{run.rng.initial_seed()}", run.file.identity)
    rng = torch.Generator(run.rng.device).manual_seed(derive_seed(run.rng.initial_seed(), "selection"))
    every = max(prior.steps // SELECTIONS, 1)
    selection = HeldOutTilt(prior, data["validation"], every, prior.draws, rng)
    loss = FlowLoss(prior, data["train"], run.rng)
    fitted = Trainer(prior, loss, own, replace(run, file=file), selection=selection).train()
    prior.requires_grad_(False)  # it stays as it is while an energy on it is trained
    return fitted.with_facts({"steps": prior.steps})
