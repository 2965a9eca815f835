"""train_features: the feature space of the Fréchet and kernel distances."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from jebm.config.training import Optimisation
from jebm.data.batches import Pixels, batches
from jebm.data.dataset import Dataset
from jebm.errors import SettingError
from jebm.features.base import FeatureSpace
from jebm.io.filenames import IMAGES
from jebm.steps.features import build_features
from jebm.steps.run import StageRun, prepare_compute
from jebm.steps.training import save_training, training_run
from jebm.training.loop import Trainer
from jebm.training.loss import Loss, Scalars
from jebm.training.run import TrainingResult


class ClassificationLoss(Loss):
    """Cross entropy of the labels, on images with the noise level of the feature space."""

    def __init__(self, features: FeatureSpace, pixels: Pixels, labels: torch.Tensor, rng: torch.Generator):
        super().__init__(len(pixels))
        self.features, self.pixels, self.labels, self.rng = features, pixels, labels, rng

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        x, labels = self.pixels[batch], self.labels[batch]
        noise = self.features.noise * torch.randn(x.shape, generator=self.rng, device=x.device)
        logits = self.features(x + noise)
        accuracy = (logits.argmax(1) == labels).float().mean()
        return cross_entropy(logits, labels), {"accuracy": accuracy}


def run(job: StageRun) -> dict:
    prepare_compute(job)
    data = job.dataset()
    features = build_features(job, data).to(job.device)
    refuse_too_few(job, data, features.known_dimensions)
    if not features.steps:
        save_training(job, features.state_dict(), TrainingResult([], {}))
        return {}
    rng = job.rng("train")
    features.initialise(rng)
    loss = ClassificationLoss(features, job.pixels(data, "train"), data.labels("train").to(job.device), rng)
    settings = Optimisation(
        steps=features.steps, batch_size=features.batch_size, learning_rate=features.learning_rate, weight_decay=0.01
    )
    fitted = Trainer(features, loss, settings, training_run(job, rng, job.variant.dataset.folder / IMAGES)).train()
    with torch.no_grad():
        accuracy = {f"{split}_accuracy": _accuracy(job, features, data, split) for split in ("validation", "test")}
    save_training(job, features.state_dict(), fitted.with_facts(accuracy))
    return {"seconds": fitted.facts["seconds"]}


def refuse_too_few(job: StageRun, data: Dataset, dimensions: int) -> None:
    """Check that there are enough images for covariances in this feature space, before it is trained.

    Raises:
        SettingError: there are too few samples of a variant, or too few images that they are compared with.
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
                raise SettingError(
                    f"{job.plan.name}: {what}: {count} are too few for a Fréchet distance in {dimensions} "
                    "features, which needs more than that: raise the number, make the images smaller (dataset.size, "
                    "mode: grey), or choose other features"
                )


def _accuracy(job: StageRun, features: nn.Module, data: Dataset, split: str) -> float:
    predicted = torch.cat([features(x).argmax(1) for x in batches(job.pixels(data, split))]).cpu()
    return float((predicted == data.labels(split)).float().mean())
