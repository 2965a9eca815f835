"""train_features: the space that the Fréchet and kernel distances look through."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from jebm.config.training import Optimisation
from jebm.data.batches import batches
from jebm.data.dataset import Dataset
from jebm.errors import JebmError
from jebm.io.filenames import IMAGES
from jebm.steps.common import Run, build_features, prepare_compute, publish_training
from jebm.training.loop import Trainer
from jebm.training.state import StateFile


def run(job: Run) -> dict:
    prepare_compute(job)
    data = job.dataset()
    features = build_features(job, data).to(job.device)
    refuse_too_few(job, data, features.known_dimensions)
    if not features.steps:
        publish_training(job, features.state_dict(), [], {})
        return {}
    stream = job.stream("train")
    features.initialise(stream)
    pixels, y = job.pixels(data, "train"), data.labels("train").to(job.device)

    def loss(step: int, batch: torch.Tensor):
        x = pixels[batch]
        noise = features.noise * torch.randn(x.shape, generator=stream, device=x.device)
        logits = features(x + noise)
        accuracy = (logits.argmax(1) == y[batch]).float().mean()
        return cross_entropy(logits, y[batch]), {"accuracy": accuracy}

    state = StateFile(job.stage.state_folder(job.seed), job.identity(job.variant.dataset.folder / IMAGES))
    optimisation = Optimisation(
        steps=features.steps, batch_size=features.batch_size, learning_rate=features.learning_rate, weight_decay=0.01
    )
    trainer = Trainer(features, loss, optimisation, len(pixels), stream, state, job.checkpoint_seconds, job.title)
    trainer.run()
    with torch.no_grad():
        accuracy = {f"{split}_accuracy": _accuracy(job, features, data, split) for split in ("validation", "test")}
    publish_training(job, features.state_dict(), trainer.history, {**trainer.facts, **accuracy})
    return {"seconds": trainer.seconds}


def refuse_too_few(job: Run, data: Dataset, dimensions: int) -> None:
    """See that there will be enough images for covariances in this space, before anything is trained for them.

    Raises:
        JebmError: of the samples of a variant, or of the images that they are compared with, there are too few.
    """
    for name, variant in job.plan.variants.items():
        if variant.features.id != job.stage.id:
            continue
        split, params = variant.params.evaluate_samples.reference, variant.params
        counts = {
            f"{name}: draw_samples.count": params.draw_samples.count,
            f"dataset: images of the split '{split}'": len(data.images(split)),
            "dataset: images of the split 'train'": len(data.images("train")),
        }
        for what, count in counts.items():
            if count <= dimensions:
                raise JebmError(
                    f"params.yaml: {job.plan.name}: {what}: {count} are too few for a Fréchet distance in {dimensions} "
                    "features, which needs more than that: raise the number, make the images smaller (dataset.size, "
                    "mode: grey), or choose other features"
                )


def _accuracy(job: Run, features: nn.Module, data: Dataset, split: str) -> float:
    predicted = torch.cat([features(x).argmax(1) for x in batches(job.pixels(data, split))]).cpu()
    return float((predicted == data.labels(split)).float().mean())
