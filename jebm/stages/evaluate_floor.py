"""evaluate_floor: the distances between training images and held-out ones, real against real."""

from jebm.plan import METRICS
from jebm.stages.common import Run, prepare_compute
from jebm.stages.evaluate_samples import Distances


def run(job: Run) -> None:
    prepare_compute(job)
    distances = Distances(job)
    distances.add(distances.data.images("train"), job.stage.id)
    distances.record.save(job.folder / METRICS)
