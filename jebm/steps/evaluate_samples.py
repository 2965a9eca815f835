"""evaluate_samples: distances between a set of samples and held-out images."""

from abc import ABC, abstractmethod
from importlib.metadata import version

import numpy as np
import torch

from jebm.data.dataset import Dataset
from jebm.errors import JebmError
from jebm.features.base import FeatureSpace
from jebm.features.extraction import extract, feature_batches
from jebm.io.filenames import IMAGES, METRICS, SAMPLES
from jebm.io.tensors import read_tensors
from jebm.metrics.frechet import frechet
from jebm.metrics.kernel_distance import kernel_distance
from jebm.metrics.precision_recall import precision_recall
from jebm.metrics.records import MetricRecord
from jebm.metrics.statistics import Statistics, frechet_of, gather
from jebm.runtime.distributed import ranks
from jebm.runtime.progress import Progress, log
from jebm.steps.features import load_features
from jebm.steps.reference_statistics import load_reference
from jebm.steps.run import StageRun, prepare_compute


def run(job: StageRun) -> None:
    """Measure the samples. If some chains diverged, there may be too few samples for a distance; then none is
    recorded."""
    prepare_compute(job)
    distances = distances_of(job)
    tensors, header = read_tensors(job.variant.samples.run_folder(job.seed) / SAMPLES, {"images"}.__contains__)
    images, diagnostics = tensors["images"], header["diagnostics"]
    try:
        if len(images):
            distances.add(images)
        else:
            log(f"{job.title}: all chains diverged; there is nothing to measure")
    except JebmError as error:
        if not diagnostics.get("non_finite"):
            raise
        log(f"{job.title}: {diagnostics['non_finite']:.1%} of the chains diverged, no distances: {error}")
    for name, value in diagnostics.items():
        distances.record.add(name, value, len(images), "sampler")
    distances.save()


def distances_of(job: StageRun) -> "Distances":
    """FID, KID, precision and recall for streamed feature spaces, FD and KD for the others."""
    return InceptionDistances(job) if job.variant.reference else FeatureDistances(job)


class Distances(ABC):
    """Distances to the reference split, with their protocols."""

    def __init__(self, job: StageRun):
        self.settings, self.data = job.variant.params.evaluate_samples, job.dataset()
        self.record, self.folder = MetricRecord(job.seed), job.folder
        self.space, self.device = load_features(job, self.data), job.device
        # The seed depends on the reference only, so that all samples are compared with the same subsets.
        self.subset_seed = job.derived_seed("kernel distance", of=job.variant.floor)
        self.facts, self.name = _facts(job, self.data, self.space), job.variant.params.dataset.name
        self.record.protocols["sampler"] = {"about": "how the samples were drawn, as the sampler reports it"}

    @abstractmethod
    def add(self, images: torch.Tensor) -> None:
        """Measure a set of uint8 images (count, channels, height, width).

        With several ranks, each processes its share of the images, and rank 0 records the distances.
        """

    def save(self) -> None:
        """Write the record."""
        if ranks().is_rank_zero:
            self.record.save(self.folder / METRICS)


class FeatureDistances(Distances):
    """FD and KD, from the features of all images at once."""

    def __init__(self, job: StageRun):
        super().__init__(job)
        self.reference = self._extract(self.data.images(self.settings.reference))
        self.subsets = {
            "subsets": self.settings.kernel_distance_subsets,
            "subset_size": min(self.settings.kernel_distance_subset_size, self.facts["reference_count"]),
        }

    def add(self, images):
        features, n = self._extract(images), len(images)
        if features is None:
            return
        # Both distances are biased by the number of samples, which is therefore part of the protocol.
        facts = {**self.facts, "sample_count": n}
        fd = self.record.protocol(f"fd-{self.name}", {"distance": "Fréchet", **facts})
        self.record.add("fd", frechet(features, self.reference), n, fd)
        kd = self.record.protocol(f"kd-{self.name}", {"distance": "kernel", **self.subsets, **facts})
        value = kernel_distance(
            features,
            self.reference,
            self.settings.kernel_distance_subsets,
            self.settings.kernel_distance_subset_size,
            self.subset_seed,
        )
        self.record.add("kd", value, n, kd)

    def _extract(self, images) -> np.ndarray | None:
        return extract(self.space, images, self.data.levels, self.device, self.settings.batch_size)


class InceptionDistances(Distances):
    """FID, KID, precision and recall, from statistics that are collected batch by batch."""

    def __init__(self, job: StageRun):
        super().__init__(job)
        self.title, self.reference = job.title, load_reference(job)
        code = [f"{name} {version(name).split('+')[0]}" for name in ("clean-fid", "numpy", "torch")]
        self.facts |= {"code": code, **self.space.facts()}

    def add(self, images):
        settings = self.settings
        features = feature_batches(self.space, images, self.data.levels, self.device, settings.batch_size)
        found = gather(features, len(images), settings.kept_features, Progress(self.title))
        if found is None:
            return
        self._add_frechet(found)
        counts = {"kept": len(found.kept), "reference_kept": len(self.reference.kept)}
        generated, real = found.kept.astype(np.float64), self.reference.kept.astype(np.float64)
        subsets = settings.kernel_distance_subsets, settings.kernel_distance_subset_size
        smallest = min(subsets[1], len(generated), len(real))
        facts = {"distance": "kernel", "subsets": subsets[0], "subset_size": smallest, **counts}
        kid = kernel_distance(generated, real, *subsets, self.subset_seed)
        self._record({"kid": kid}, found.count, "kid", facts)
        k = settings.precision_recall_neighbours
        precision, recall = precision_recall(generated, real, k, self.device)
        facts = {"manifolds": "nearest neighbours", "neighbours": k, **counts}
        self._record({"precision": precision, "recall": recall}, found.count, "pr", facts)

    def _add_frechet(self, found: Statistics) -> None:
        singular = {"covariance": "singular, too few images"} if found.singular or self.reference.singular else {}
        value = frechet_of(found, self.reference, self.settings.allow_singular)
        self._record({"fid": value}, found.count, "fid", {"distance": "Fréchet", **singular})

    def _record(self, values: dict[str, float], count: int, name: str, facts: dict) -> None:
        # All these metrics depend on the number of samples, which is therefore part of the protocol.
        protocol = self.record.protocol(f"{name}-{self.name}", {**facts, **self.facts, "sample_count": count})
        for metric, value in values.items():
            self.record.add(metric, value, count, protocol)


def _facts(job: StageRun, data: Dataset, space: FeatureSpace) -> dict:
    return {
        "code": [f"{name} {version(name).split('+')[0]}" for name in ("clean-fid", "scipy", "torch")],
        "features": f"{space.about} ({job.variant.features.id})",
        "image_shape": list(data.image_shape),
        "grey_levels": data.levels,
        "reference": job.variant.params.evaluate_samples.reference,
        "reference_count": len(data.images(job.variant.params.evaluate_samples.reference)),
        "reference_sha256": data.manifest["sha256"][IMAGES],
        "samples": "means of p(x|z), quantised",
    }
