"""Training of the diffusion prior: it predicts the velocity of posterior draws under noise."""

import math

import torch

from jebm.config.training import TrainPrior
from jebm.data.batches import Pixels
from jebm.models.backbones.base import flatten
from jebm.models.priors.diffusion import DiffusionPrior
from jebm.runtime.random import derive_seed
from jebm.training.held_out import HeldOutTilt
from jebm.training.loop import Trainer
from jebm.training.loss import Loss, Scalars
from jebm.training.run import TrainingResult, TrainingRun


class DenoisingLoss(Loss):
    """E |v − v̂(x(θ), θ)|² / dimensions at angles θ that are uniform on [0, π/2], stratified over the batch.

    It is 1 for N(0, I), where v is independent of x(θ) and v̂ = 0.
    """

    def __init__(self, prior: DiffusionPrior, pixels: Pixels, rng: torch.Generator):
        super().__init__(len(pixels))
        self.prior, self.pixels, self.rng = prior, pixels, rng

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        with torch.no_grad():
            eps = flatten(self.prior.hierarchy.infer(self.pixels[batch], self.rng).eps)
        noise = torch.randn(eps.shape, generator=self.rng, device=eps.device)
        place = torch.arange(len(eps), device=eps.device).unsqueeze(1)
        uniform = torch.rand(len(eps), 1, generator=self.rng, device=eps.device)
        angle = math.pi / 2 * (place + uniform) / len(eps)
        x, velocity = angle.cos() * eps + angle.sin() * noise, angle.cos() * noise - angle.sin() * eps
        return (velocity - self.prior.velocity(x, angle)).square().mean(), {}


def fit(prior: DiffusionPrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun) -> TrainingResult:
    """Train the network; ``select`` keeps the weights with the best likelihood of the validation split."""
    prior.hierarchy.requires_grad_(False).eval()
    prior.initialise(run.rng)
    selection = None
    if chosen := settings.select:
        rng = torch.Generator(run.rng.device).manual_seed(derive_seed(run.rng.initial_seed(), "selection"))
        selection = HeldOutTilt(prior, data["validation"], chosen.every, chosen.draws, rng)
    trainer = Trainer(prior, DenoisingLoss(prior, data["train"], run.rng), settings, run, selection=selection)
    return trainer.train().with_facts({"steps": settings.steps})
