"""train_features: the classifier whose penultimate layer is the feature space of FD-digits."""

import torch
from torch.nn.functional import cross_entropy

from jebm.config import Optimisation
from jebm.data.dataset import Dataset
from jebm.models.classifier import Classifier
from jebm.plan import IMAGES
from jebm.stages.common import Run, prepare_compute, publish_training
from jebm.training.loop import Trainer
from jebm.training.state import StateFile


def run(job: Run) -> dict:
    prepare_compute(job)
    settings, data, stream = job.variant.params.features, job.dataset(), job.stream("train")
    classifier = build_classifier(job, data.image_shape).to(job.device)
    classifier.initialise(stream)
    x, y = data.pixels("train").to(job.device), data.labels("train").to(job.device)

    def loss(step: int, batch: torch.Tensor):
        noise = settings.noise * torch.randn(x[batch].shape, generator=stream, device=x.device)
        logits = classifier(x[batch] + noise)
        accuracy = (logits.argmax(1) == y[batch]).float().mean()
        return cross_entropy(logits, y[batch]), {"accuracy": accuracy}

    state = StateFile(job.stage.state_folder(job.seed), job.identity(job.variant.dataset.folder / IMAGES))
    optimisation = Optimisation(
        steps=settings.steps, batch_size=settings.batch_size, learning_rate=settings.learning_rate, weight_decay=0.01
    )
    trainer = Trainer(
        classifier, loss, optimisation, len(x), stream, state, job.checkpoint_seconds, f"{job.title} ({job.kind})"
    )
    trainer.run()
    with torch.no_grad():
        accuracy = {f"{split}_accuracy": _accuracy(classifier, data, split) for split in ("validation", "test")}
    publish_training(job, classifier.state_dict(), trainer.history, accuracy)
    return {"seconds": trainer.seconds}


def _accuracy(classifier: Classifier, data: Dataset, split: str) -> float:
    device = next(classifier.parameters()).device
    predicted = classifier(data.pixels(split).to(device)).argmax(1).cpu()
    return float((predicted == data.labels(split)).float().mean())


def build_classifier(job: Run, image_shape: tuple[int, ...]) -> Classifier:
    settings = job.variant.params.features
    return Classifier(image_shape, 10, settings.channels, settings.dimensions)
