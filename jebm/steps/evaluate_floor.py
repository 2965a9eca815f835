"""evaluate_floor: the distances between training images and held-out images, as a baseline for samples."""

from jebm.steps.evaluate_samples import distances_of
from jebm.steps.run import StageRun, prepare_compute


def run(job: StageRun) -> None:
    """Measure the training images, or the test images if the training split is the reference."""
    prepare_compute(job)
    distances = distances_of(job)
    split = "train" if distances.settings.reference != "train" else "test"
    distances.add(distances.data.images(split))
    distances.save()
