"""Training of a product of noise-contrastive stages, one after the other."""

from dataclasses import replace

import torch
from torch.nn.functional import softplus

from jebm.config.training import TrainPrior
from jebm.data.batches import Pixels
from jebm.models.nets import frozen
from jebm.models.priors.multi_stage import MultiStagePrior
from jebm.runtime.random import derive_seed
from jebm.sampling.proposal import Proposal
from jebm.sampling.run import run_chain
from jebm.sampling.target import Target
from jebm.training.ebm import fit_base
from jebm.training.loop import Trainer
from jebm.training.loss import Loss, Scalars
from jebm.training.run import TrainingResult, TrainingRun
from jebm.training.selection import ValidationGain
from jebm.training.state import StateFile


class StageLoss(Loss):
    """Minimises −E_q[log σ(f_m)] − E_{p_{m−1}}[log(1 − σ(f_m))], in nats; 2 log 2 if the two can't be distinguished.

    The draws of p_{m−1} are walkers: they start from the proposal, and its kernel moves them in every step. For the
    first stage they are fresh draws of the base.

    Args:
        stage: m, from 1.
    """

    def __init__(self, prior: MultiStagePrior, stage: int, pixels: Pixels, rng: torch.Generator):
        super().__init__(len(pixels))
        self.prior, self.pixels, self.rng, self.first = prior, pixels, rng, stage == 1
        self.energy, self.before = prior.energy.stages[stage - 1], prior.first(stage - 1)
        self.walkers: torch.Tensor | None = None

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        hierarchy = self.prior.hierarchy
        with torch.no_grad():
            positive = hierarchy.infer(self.pixels[batch], self.rng).top
            negative = hierarchy.top_down_flat(self._negative(len(batch)))
        f_positive, f_noise = self.energy(positive), self.energy(negative)
        right = torch.cat([f_positive > 0, f_noise <= 0]).float().mean()
        scalars = {"accuracy": right, "f_posterior": f_positive.mean(), "f_prior": f_noise.mean()}
        return softplus(-f_positive).mean() + softplus(f_noise).mean(), scalars

    def _negative(self, count: int) -> torch.Tensor:
        """Draws of p_{m−1}, (count or the number of walkers, dimensions)."""
        if self.first:
            return self.prior.base.sample(count, self.rng)
        if self.walkers is None:
            self.walkers = Proposal(self.before, self.prior.hierarchy.dimensions).sample(self.prior.walkers, self.rng)
        with frozen(self.before):
            target = Target(self.before.tilt, prior=self.before)
            self.walkers = run_chain(self.prior.kernel, target, self.walkers, 1, self.rng).x
        return self.walkers

    def state_dict(self) -> dict:
        return {"walkers": self.walkers}

    def load_state_dict(self, state: dict) -> None:
        self.walkers = state["walkers"]


def fit(prior: MultiStagePrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun) -> TrainingResult:
    """Train the stages one after the other, each by a training of its own. Rows of the history count all steps, and
    ``select`` keeps, for each stage, the weights with which the product up to it is best on the validation split."""
    facts = fit_base(prior, data, settings, run)
    prior.initialise(run.rng)
    prior.hierarchy.requires_grad_(False)
    history: list[dict] = []
    for stage in range(1, len(prior.energy.stages) + 1):
        rng = torch.Generator(run.rng.device).manual_seed(derive_seed(run.rng.initial_seed(), "stage", stage))
        file = StateFile(run.file.path.parent / f"stage-{stage}", run.file.identity)
        own = replace(run, title=f"{run.title}: stage {stage}", file=file, rng=rng)
        selection = None
        if settings.select:
            draws = torch.Generator(run.rng.device).manual_seed(derive_seed(run.rng.initial_seed(), "selection"))
            selection = ValidationGain(prior.first(stage), data["validation"], settings.select, draws)
        loss = StageLoss(prior, stage, data["train"], rng)
        trained = Trainer(prior.energy.stages[stage - 1], loss, settings, own, selection=selection).train()
        done = settings.steps * (stage - 1)
        history += [{**row, "step": row["step"] + done, "stage": stage} for row in trained.history]
        facts |= trained.facts | {"seconds": round(facts.get("seconds", 0) + trained.facts["seconds"], 1)}
    return TrainingResult(history, facts | {"steps": settings.steps * len(prior.energy.stages)})
