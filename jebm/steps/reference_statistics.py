"""reference_statistics: statistics of the features of the reference images, computed once for all samples."""

import torch

from jebm.features.extraction import feature_batches
from jebm.io.filenames import STATISTICS
from jebm.io.tensors import read_tensors, write_tensors
from jebm.metrics.statistics import Statistics, gather
from jebm.runtime.progress import Progress
from jebm.steps.features import load_features
from jebm.steps.run import StageRun, prepare_compute


def run(job: StageRun) -> None:
    """Write the mean and covariance (float64) of the features over the reference split, and a subset of the
    features."""
    prepare_compute(job)
    data, settings = job.dataset(), job.variant.params.evaluate_samples.statistics
    space, images = load_features(job, data), data.images(settings.reference)
    features = feature_batches(space, images, data.levels, job.device, settings.batch_size)
    found = gather(features, len(images), settings.max_stored_features, Progress(job.title))
    if found is None:
        return
    tensors = {name: torch.from_numpy(getattr(found, name)) for name in ("mean", "covariance", "kept")}
    write_tensors(job.folder / STATISTICS, tensors, {"stage": job.stage.id, "count": found.count})


def load_reference(job: StageRun) -> Statistics:
    """The statistics of the reference images of this job's samples."""
    tensors, header = read_tensors(job.variant.reference.folder / STATISTICS)
    return Statistics(header["count"], **{name: tensor.numpy() for name, tensor in tensors.items()})
