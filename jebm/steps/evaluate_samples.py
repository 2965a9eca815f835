"""evaluate_samples: distances between sets of samples and held-out images."""

from abc import ABC, abstractmethod
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import torch

from jebm.data.dataset import Dataset
from jebm.errors import JebmError
from jebm.features.base import FeatureSpace
from jebm.features.extraction import extract, feature_batches
from jebm.io.filenames import IMAGES, METRICS, SAMPLES, image_set
from jebm.io.tensors import read_tensors
from jebm.metrics.catalogue import NOISE
from jebm.metrics.frechet import frechet
from jebm.metrics.kernel_distance import kernel_distance
from jebm.metrics.precision_recall import precision_recall
from jebm.metrics.records import MetricRecord
from jebm.metrics.statistics import frechet_of, gather
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
    tensors, header = read_tensors(
        job.variant.samples.run_folder(job.seed) / SAMPLES, lambda name: name.startswith("images")
    )
    sets, diagnostics = [tensors[image_set(number + 1)] for number in range(len(tensors))], header["diagnostics"]
    size = min(map(len, sets))  # of all sets, since distances are biased by it; sets with diverged chains are smaller
    try:
        if size:
            distances.add(*(images[:size] for images in sets))
        else:
            log(f"{job.title}: all chains diverged in a sample set; there is nothing to measure")
    except JebmError as error:
        if not diagnostics.get("non_finite"):
            raise
        log(f"{job.title}: {diagnostics['non_finite']:.1%} of the chains diverged, no distances: {error}")
    for name, value in diagnostics.items():
        distances.record.add(name, value, sum(map(len, sets)), "sampler")
    distances.save()


def distances_of(job: StageRun) -> "Distances":
    """FID, KID, precision and recall for streamed feature spaces, FD and KD for the others."""
    return InceptionDistances(job) if job.variant.reference else FeatureDistances(job)


class Distance(NamedTuple):
    """A distance of one sample set."""

    value: float
    name: str
    """The name of its protocol."""
    facts: dict
    """What its protocol says besides what all distances have in common."""


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
    def measure(self, images: torch.Tensor) -> dict[str, Distance]:
        """The distances of one set of uint8 images (count, channels, height, width), by metric.

        With several ranks, each processes its share of the images, and only rank 0 gets the distances.
        """

    def add(self, *sets: torch.Tensor) -> None:
        """Record the distances of sample sets of equal size: the mean over the sets and, if there are several, their
        standard deviation, which estimates the noise of a distance of one set."""
        count, measured = len(sets[0]), [self.measure(images) for images in sets]
        for metric, (_, name, facts) in measured[0].items():
            # A distance depends on the number of samples, which is therefore part of the protocol. The number of sets
            # changes its noise alone.
            facts = {**facts, **self.facts, "sample_count": count}
            values = [distances[metric].value for distances in measured]
            self.record.add(metric, np.mean(values), count, self.record.protocol(f"{name}-{self.name}", facts))
            if len(sets) > 1:
                protocol = self.record.protocol(f"{name}-noise-{self.name}", facts | {"sets": len(sets)})
                self.record.add(metric + NOISE, np.std(values, ddof=1), count, protocol)

    def save(self) -> None:
        """Write the record."""
        if ranks().is_rank_zero:
            self.record.save(self.folder / METRICS)


class FeatureDistances(Distances):
    """FD and KD, and precision and recall if they are asked for, from the features of all images at once."""

    def __init__(self, job: StageRun):
        super().__init__(job)
        self.reference = self._extract(self.data.images(self.settings.reference))
        self.subsets = {
            "subsets": self.settings.kernel_distance_subsets,
            "subset_size": min(self.settings.kernel_distance_subset_size, self.facts["reference_count"]),
        }

    def measure(self, images):
        features = self._extract(images)
        if features is None:
            return {}
        fd, settings = frechet(features, self.reference), self.settings
        subsets = settings.kernel_distance_subsets, settings.kernel_distance_subset_size
        kd = kernel_distance(features, self.reference, *subsets, self.subset_seed)
        distances = {
            "fd": Distance(fd, "fd", {"distance": "Fréchet"}),
            "kd": Distance(kd, "kd", {"distance": "kernel", **self.subsets}),
        }
        return distances | self._manifolds(features) if settings.manifold_images else distances

    def _manifolds(self, features: np.ndarray) -> dict[str, Distance]:
        k, most = self.settings.precision_recall_neighbours, self.settings.manifold_images
        generated, real = features[:most], self.reference[:most]
        precision, recall = precision_recall(generated, real, k, self.device)
        counts = {"kept": len(generated), "reference_kept": len(real)}
        facts = {"manifolds": "nearest neighbours", "neighbours": k, **counts}
        return {"precision": Distance(precision, "pr", facts), "recall": Distance(recall, "pr", facts)}

    def _extract(self, images) -> np.ndarray | None:
        return extract(self.space, images, self.data.levels, self.device, self.settings.batch_size)


class InceptionDistances(Distances):
    """FID, KID, precision and recall, from statistics that are collected batch by batch."""

    def __init__(self, job: StageRun):
        super().__init__(job)
        self.title, self.reference = job.title, load_reference(job)
        code = [f"{name} {version(name).split('+')[0]}" for name in ("clean-fid", "numpy", "torch")]
        self.facts |= {"code": code, **self.space.facts()}

    def measure(self, images):
        settings = self.settings
        features = feature_batches(self.space, images, self.data.levels, self.device, settings.batch_size)
        found = gather(features, len(images), settings.max_stored_features, Progress(self.title))
        if found is None:
            return {}
        fid = frechet_of(found, self.reference, settings.allow_singular)
        singular = {"covariance": "singular, too few images"} if found.singular or self.reference.singular else {}
        counts = {"kept": len(found.kept), "reference_kept": len(self.reference.kept)}
        generated, real = found.kept.astype(np.float64), self.reference.kept.astype(np.float64)
        subsets = settings.kernel_distance_subsets, settings.kernel_distance_subset_size
        smallest = min(subsets[1], len(generated), len(real))
        kernel = {"distance": "kernel", "subsets": subsets[0], "subset_size": smallest, **counts}
        k = settings.precision_recall_neighbours
        precision, recall = precision_recall(generated, real, k, self.device)
        neighbours = {"manifolds": "nearest neighbours", "neighbours": k, **counts}
        return {
            "fid": Distance(fid, "fid", {"distance": "Fréchet", **singular}),
            "kid": Distance(kernel_distance(generated, real, *subsets, self.subset_seed), "kid", kernel),
            "precision": Distance(precision, "pr", neighbours),
            "recall": Distance(recall, "pr", neighbours),
        }


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
