"""evaluate_density: a prior evaluated as a density, by bounds on log p(x), log Z and outlier detection."""

import math
from importlib.metadata import version

import torch

from jebm.config.schema import Annealing
from jebm.data.dataset import Dataset
from jebm.errors import JebmError
from jebm.io.filenames import ARRAYS, IMAGES, METRICS
from jebm.io.tensors import write_tensors
from jebm.metrics.detection import detection_metrics, outlier_scores
from jebm.metrics.likelihood import LogWeights, bits_per_dimension, importance_weighted, log_weights
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import Hierarchy
from jebm.models.priors.base import Prior
from jebm.runtime.progress import Progress, log
from jebm.sampling.annealed import (
    anneal_forward,
    anneal_reverse,
    base_draws,
    inverse_temperatures,
    lower_bound,
    upper_bound,
)
from jebm.sampling.closed_form.gradients import prior_target
from jebm.sampling.partition import LogPartition, estimate_log_partition, estimates_agree, resample
from jebm.sampling.pcnl import CrankNicolsonLangevin
from jebm.sampling.proposal import SHARE
from jebm.sampling.run import run_chain
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
        self.allow_divergence = (params.train_joint or params.train_prior).allow_divergence
        self.facts = {
            "reference": self.settings.reference,
            "reference_sha256": data.manifest["sha256"][IMAGES],
            "grey_levels": data.levels,
        }

    def add_likelihood(self) -> None:
        """Add log Z by several estimates, and the ELBO and the importance-weighted bound if these agree, in nats per
        image.

        Priors that are sampled level by level have none: their samples need not have the density of level 0.
        """
        settings, record = self.settings, self.record
        weights = self._weights(settings.reference, settings.importance_samples, "bound", redraw=False)
        self.arrays["tilt/posterior"] = weights.tilt[:, 0]
        if getattr(self.prior, "by_levels", False):
            log(f"{self.title}: its samples need not have the density of level 0, so there is no bound on log p(x)")
            return
        if (log_z := self._log_partition()) is None:
            return
        draws, n = settings.importance_samples, len(weights.gaussian)
        levels = self.hierarchy.levels
        unit = f"nats per image, {f'mass on {levels} levels' if levels else 'density of pixels in [-1, 1]'}"
        log_w = weights.gaussian + weights.tilt - log_z.value
        # The protocol does not contain how log Z was found, so that priors with an exact log Z can be compared.
        facts = {**self.facts, "unit": unit, "draws": draws, "log_z": "exact, or by estimates that agree"}
        bound = record.protocol(f"iw{draws}", facts)
        bounds = importance_weighted(log_w)
        self.arrays |= {"iw_bound": bounds, "log_z_se": torch.tensor(log_z.standard_error, dtype=torch.float64)}
        iw_bound = bounds.mean()
        self._add("iw_bound", iw_bound, n, bound)
        self._add("elbo", log_w.double().mean(), n, bound)
        size, cell = math.prod(self.data.image_shape), 1.0 if levels else 2 / (self.data.levels - 1)
        bits = record.protocol(f"bits-iw{draws}", {**facts, "cell": cell})
        self._add("bits_per_dim", bits_per_dimension(float(iw_bound), size, cell), n, bits)

    def _log_partition(self) -> LogPartition | None:
        """Add the estimates of log Z. Returns the one from the defensive proposal, or None if it can't be relied on."""
        settings, dimensions = self.settings, self.hierarchy.dimensions
        if self.prior.normalised:
            return LogPartition(0.0, 0.0, 1.0)
        draws = settings.partition_samples
        estimates = {
            "importance": estimate_log_partition(self.prior, dimensions, draws, self.job.rng("partition")),
            "normal": estimate_log_partition(
                self.prior, dimensions, draws, self.job.rng("partition normal"), share=1.0
            ),
        }
        facts = {"draws": draws, "share of N(0, I)": SHARE}
        finite = math.isfinite(estimates["importance"].value)
        if (annealing := settings.annealing) and finite:
            estimates |= self._anneal(annealing)
            facts |= annealing.model_dump()
        protocol = self.record.protocol("log-z", facts)
        # Without a set: the estimate that the bounds use.
        for name, estimate in {"": estimates["importance"], **estimates}.items():
            n = annealing.chains if name in ("lower", "upper") else draws
            self._add("log_z", estimate.value, n, protocol, set=name)
            self._add("log_z_se", estimate.standard_error, n, protocol, set=name)
            self._add("log_z_ess", estimate.effective_fraction * n, n, protocol, set=name)
        trusted = [estimate for name, estimate in estimates.items() if name != "normal" or not annealing]
        agree = estimates_agree(trusted)
        self._add("log_z_gap", max(e.value for e in trusted) - min(e.value for e in trusted), draws, protocol)
        self._add("log_z_agrees", float(agree), draws, protocol)
        if agree:
            return estimates["importance"]
        told = ", ".join(f"{name} {e.value:.2f} ± {e.standard_error:.2f}" for name, e in estimates.items())
        log(f"warning: {self.title}: the estimates of log Z disagree ({told}); no bound on log p(x) is reported")
        return None

    def _anneal(self, settings: Annealing) -> dict[str, LogPartition]:
        """Estimates of log Z by annealing, whose expectations are below and above it."""
        prior, dimensions, progress = self.prior, self.hierarchy.dimensions, Progress(f"{self.title}: annealing")
        kernel = CrankNicolsonLangevin(step_size=settings.step_size, adjusted=True)
        betas, rng = inverse_temperatures(settings.temperatures), self.job.rng("annealing forward")
        start = base_draws(prior, dimensions, settings.chains, rng)
        forward = anneal_forward(prior, start, betas, kernel, rng, progress)
        rng = self.job.rng("annealing reverse")
        start, _ = resample(prior, dimensions, settings.chains, self.settings.partition_samples, rng)
        start = run_chain(kernel, prior_target(prior, "closed-form"), start, settings.start_steps, rng).x
        reverse = anneal_reverse(prior, start, betas, kernel, rng, progress)
        self.arrays |= {"annealing/forward": forward.log_weights, "annealing/reverse": reverse.log_weights}
        protocol = self.record.protocol("annealing", settings.model_dump())
        acceptance = (forward.acceptance + reverse.acceptance) / 2
        self._add("annealing_acceptance", acceptance, settings.chains, protocol)
        return {"lower": lower_bound(forward), "upper": upper_bound(reverse)}

    def _add(self, metric: str, value: float, n: int, protocol: str, **about: str) -> None:
        """Record a value. Values that are not finite are left out if the training may diverge; their table cells stay
        empty."""
        if math.isfinite(value):
            self.record.add(metric, value, n, protocol, **about)
        elif self.allow_divergence:
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
