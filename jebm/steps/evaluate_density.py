"""evaluate_density: a prior evaluated as a density, by bounds on log p(x), log Z and outlier detection."""

import math
from importlib.metadata import version

from jebm.data.dataset import Dataset
from jebm.errors import JebmError
from jebm.io.filenames import ARRAYS, IMAGES, METRICS
from jebm.io.tensors import write_tensors
from jebm.metrics.detection import detection_metrics, outlier_scores
from jebm.metrics.likelihood import LogWeights, importance_weighted, log_weights
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import Hierarchy
from jebm.models.priors.base import Prior
from jebm.runtime.progress import Progress, log
from jebm.sampling.partition import estimate_log_partition
from jebm.steps.models import load_backbone, load_prior
from jebm.steps.run import StageRun, prepare_compute


def run(job: StageRun) -> None:
    prepare_compute(job)
    data = job.dataset()
    hierarchy = load_backbone(job, data.image_shape)
    density = Density(job, data, hierarchy, load_prior(job, hierarchy))
    density.add_likelihood()
    if density.settings.detection_samples:
        density.add_detection()
    write_tensors(job.folder / ARRAYS, density.arrays, {"stage": job.stage.id, "seed": job.seed})
    density.record.save(job.folder / METRICS)


class Density:
    """Evaluates one prior."""

    def __init__(self, job: StageRun, data: Dataset, hierarchy: Hierarchy, prior: Prior):
        self.job, self.data, self.hierarchy, self.prior = job, data, hierarchy, prior
        self.record, self.arrays = MetricRecord(job.seed), {}
        params = job.variant.params
        self.settings, self.title = params.evaluate_density, job.title
        self.may_diverge = (params.train_joint or params.train_prior).may_diverge
        self.facts = {
            "reference": self.settings.reference,
            "reference_sha256": data.manifest["sha256"][IMAGES],
            "grey_levels": data.levels,
        }

    def add_likelihood(self) -> None:
        """Add log Z with its standard error, the ELBO, and the importance-weighted bound, in nats per image."""
        settings, record = self.settings, self.record
        rng = self.job.rng("partition")
        log_z = estimate_log_partition(self.prior, self.hierarchy.dimensions, settings.partition_samples, rng)
        weights = self._weights(settings.reference, settings.importance_samples, "bound", redraw=False)
        self.arrays["tilt/posterior"] = weights.tilt[:, 0]
        draws, n = settings.importance_samples, len(weights.gaussian)
        levels = self.hierarchy.levels
        unit = f"nats an image, {f'mass on {levels} levels' if levels else 'density of pixels in [-1, 1]'}"
        log_w = weights.gaussian + weights.tilt - log_z.value
        facts = {**self.facts, "unit": unit, "draws": draws, "log_z_draws": settings.partition_samples}
        bound = record.protocol(f"iw{draws}", facts)
        self._add("iw_bound", importance_weighted(log_w).mean(), n, bound)
        self._add("elbo", log_w.double().mean(), n, bound)
        partition = record.protocol("log-z-is", {"draws": settings.partition_samples, "proposal": "Gaussian prior"})
        self._add("log_partition", log_z.value, settings.partition_samples, partition)
        self._add("log_partition_se", log_z.standard_error, settings.partition_samples, partition)
        self._add("log_partition_ess", log_z.effective_fraction, settings.partition_samples, partition)

    def _add(self, metric: str, value: float, n: int, protocol: str) -> None:
        """Record a value. Values that are not finite are left out if the training may diverge; their table cells stay
        empty."""
        if math.isfinite(value):
            self.record.add(metric, value, n, protocol)
        elif self.may_diverge:
            log(f"warning: {self.title}: {metric} is {float(value)}; it is left out")
        else:
            raise JebmError(f"{self.title}: {metric} is {float(value)}; the model or its energies have diverged")

    def add_detection(self) -> None:
        """Add AUROC, AUPRC and FPR of each score on each out-of-distribution set of the data."""
        draws, reference = self.settings.detection_samples, self.settings.reference
        code = f"scikit-learn {version('scikit-learn')}"
        facts = {**self.facts, "draws": draws, "code": code, "positive": "outliers"}
        protocol = self.record.protocol(f"detection-{draws}", facts)
        splits = {reference: reference} | {name: f"ood/{name}" for name in self.data.ood_sets}
        scores = {
            name: outlier_scores(self._weights(split, draws, f"detection {split}", redraw=True))
            for name, split in splits.items()
        }
        for name, by_score in scores.items():
            for score, values in by_score.items():
                self.arrays[f"score/{name}/{score}"] = values
                if name == reference:
                    continue
                normal = scores[reference][score].cpu().numpy()
                for metric, value in detection_metrics(normal, values.cpu().numpy()).items():
                    n = len(values) + len(normal)
                    self.record.add(metric, value, n, protocol, set=name, score=score)

    def _weights(self, split: str, draws: int, purpose: str, redraw: bool) -> LogWeights:
        # The generator depends on the backbone only, so that all priors on it are compared on the same posterior draws.
        pixels = self.job.pixels(self.data, split)
        rng = self.job.rng(purpose, of=self.job.variant.backbone)
        progress = Progress(f"{self.title}: {purpose}")
        return log_weights(self.hierarchy, self.prior, pixels, draws, rng, redraw, progress)
