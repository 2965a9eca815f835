"""train_features: the space that the Fréchet and kernel distances look through."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from jebm.config import Optimisation
from jebm.data.dataset import Dataset
from jebm.plan import IMAGES
from jebm.stages.common import Run, build_features, prepare_compute, publish_training
from jebm.training.loop import Trainer
from jebm.training.state import StateFile


def run(job: Run) -> dict:
    prepare_compute(job)
    data = job.dataset()
    features = build_features(job, data).to(job.device)
    if not features.steps:
        publish_training(job, features.state_dict(), [], {})
        return {}
    stream = job.stream("train")
    features.initialise(stream)
    x, y = data.pixels("train").to(job.device), data.labels("train").to(job.device)

    def loss(step: int, batch: torch.Tensor):
        noise = features.noise * torch.randn(x[batch].shape, generator=stream, device=x.device)
        logits = features(x[batch] + noise)
        accuracy = (logits.argmax(1) == y[batch]).float().mean()
        return cross_entropy(logits, y[batch]), {"accuracy": accuracy}

    state = StateFile(job.stage.state_folder(job.seed), job.identity(job.variant.dataset.folder / IMAGES))
    optimisation = Optimisation(
        steps=features.steps, batch_size=features.batch_size, learning_rate=features.learning_rate, weight_decay=0.01
    )
    trainer = Trainer(features, loss, optimisation, len(x), stream, state, job.checkpoint_seconds, job.title)
    trainer.run()
    with torch.no_grad():
        accuracy = {f"{split}_accuracy": _accuracy(features, data, split) for split in ("validation", "test")}
    publish_training(job, features.state_dict(), trainer.history, {**trainer.facts, **accuracy})
    return {"seconds": trainer.seconds}


def _accuracy(features: nn.Module, data: Dataset, split: str) -> float:
    device = next(features.parameters()).device
    predicted = features(data.pixels(split).to(device)).argmax(1).cpu()
    return float((predicted == data.labels(split)).float().mean())
