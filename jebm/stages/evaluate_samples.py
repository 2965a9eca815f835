"""evaluate_samples: distances between samples and held-out images, for all variants that are measured alike."""

from importlib.metadata import version

import numpy as np
from torch import nn

from jebm.data.dataset import Dataset
from jebm.metrics.features import extract
from jebm.metrics.frechet import frechet
from jebm.metrics.kernel_distance import kernel_distance
from jebm.metrics.records import MetricRecord
from jebm.plan import IMAGES, METRICS, SAMPLES
from jebm.progress import Progress
from jebm.stages.common import Run, load_features, prepare_compute
from jebm.store import read_tensors


def run(job: Run) -> None:
    prepare_compute(job)
    distances = Distances(job)
    progress, ids = Progress(job.title), job.stage.spec["samples"]
    for done, samples_id in enumerate(ids, 1):
        variant = job.plan.find("samples", samples_id)
        path = variant.samples.run_folder(job.seed) / SAMPLES
        tensors, header = read_tensors(path, {"images"}.__contains__)
        distances.add(tensors["images"], samples_id)
        for name, value in header["diagnostics"].items():
            distances.record.add(name, value, len(tensors["images"]), "sampler", samples=samples_id)
        progress("sample sets", done, len(ids))
    distances.record.save(job.folder / METRICS)


class Distances:
    """FD and KD against the reference split of the study, with their protocols."""

    def __init__(self, job: Run):
        self.settings, self.data = job.variant.params.evaluate_samples, job.dataset()
        self.record = MetricRecord(job.seed)
        self.space, self.device = load_features(job, self.data), job.device
        self.reference = self._extract(self.data.images(self.settings.reference))
        self.subset_seed = job.derived_seed("kernel distance")
        self.facts, self.name = _facts(job, self.data, self.space), job.variant.params.dataset.name
        self.subsets = {
            "subsets": self.settings.kernel_distance_subsets,
            "subset_size": min(self.settings.kernel_distance_subset_size, len(self.reference)),
        }
        self.record.protocols["sampler"] = {"about": "how the samples were drawn, as the sampler reports it"}

    def add(self, images, samples: str) -> None:
        features, n = self._extract(images), len(images)
        # Both distances are biased by the number of samples: another number is another protocol.
        facts = {**self.facts, "sample_count": n}
        fd = self.record.protocol(f"fd-{self.name}", {"distance": "Fréchet", **facts})
        self.record.add("fd", frechet(features, self.reference), n, fd, samples=samples)
        kd = self.record.protocol(f"kd-{self.name}", {"distance": "kernel", **self.subsets, **facts})
        value = kernel_distance(
            features,
            self.reference,
            self.settings.kernel_distance_subsets,
            self.settings.kernel_distance_subset_size,
            self.subset_seed,
        )
        self.record.add("kd", value, n, kd, samples=samples)

    def _extract(self, images) -> np.ndarray:
        return extract(self.space, images, self.data.levels, self.device)


def _facts(job: Run, data: Dataset, space: nn.Module) -> dict:
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
