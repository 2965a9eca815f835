"""evaluate_floor: the distances between training images and held-out ones, real against real."""

from jebm.steps.evaluate_samples import distances_of
from jebm.steps.run import StageRun, prepare_compute


def run(job: StageRun) -> None:
    """Measure the training images; the test images where those are the reference."""
    prepare_compute(job)
    distances = distances_of(job)
    split = "train" if distances.settings.reference != "train" else "test"
    distances.add(distances.data.images(split))
    distances.save()
