"""evaluate_density: what a prior is worth as a density: bounds on log p(x), log Z, and outlier detection."""

from importlib.metadata import version

import torch

from jebm.data.dataset import Dataset
from jebm.metrics.detection import detection_metrics
from jebm.metrics.likelihood import LogWeights, importance_weighted, log_weights
from jebm.metrics.records import MetricRecord
from jebm.plan import ARRAYS, IMAGES, METRICS
from jebm.progress import Progress
from jebm.sampling.partition import LogPartition, estimate_log_partition
from jebm.stages.common import Run, load_backbone, load_prior, prepare_compute
from jebm.store import write_tensors


def run(job: Run) -> None:
    prepare_compute(job)
    data, settings = job.dataset(), job.variant.params.evaluate_density
    hierarchy = load_backbone(job, data.image_shape)
    prior = load_prior(job, hierarchy)
    record, arrays = MetricRecord(job.seed), {}
    facts = {
        "reference": settings.reference,
        "reference_sha256": data.manifest["sha256"][IMAGES],
        "grey_levels": data.levels,
    }

    log_z = estimate_log_partition(prior, hierarchy.dimensions, settings.partition_samples, job.stream("partition"))
    x = data.pixels(settings.reference).to(job.device)
    weights = log_weights(
        hierarchy,
        prior,
        x,
        settings.importance_samples,
        job.stream("bound"),
        progress=Progress(f"{job.title}: importance-weighted bound"),
    )
    _add_likelihood(record, weights, log_z, settings, facts)
    arrays["tilt/posterior"] = weights.tilt[:, 0]
    if data.ood_sets:
        _add_detection(job, record, arrays, hierarchy, prior, data, facts)
    write_tensors(job.folder / ARRAYS, arrays, {"stage": job.stage.id, "seed": job.seed})
    record.save(job.folder / METRICS)


def _add_likelihood(record: MetricRecord, weights: LogWeights, log_z: LogPartition, settings, facts: dict) -> None:
    n = len(weights.gaussian)
    unit = "nats an image, density of pixels in [-1, 1]"
    log_w = weights.gaussian + weights.tilt - log_z.value
    draws = settings.importance_samples
    bound = record.protocol(
        f"iw{draws}",
        {**facts, "unit": unit, "draws": draws, "log_z_draws": settings.partition_samples},
    )
    record.add("iw_bound", importance_weighted(log_w).mean(), n, bound)
    record.add("elbo", log_w.double().mean(), n, bound)
    partition = record.protocol("log-z-is", {"draws": settings.partition_samples, "proposal": "Gaussian prior"})
    record.add("log_partition", log_z.value, settings.partition_samples, partition)
    record.add("log_partition_se", log_z.standard_error, settings.partition_samples, partition)
    record.add("log_partition_ess", log_z.effective_fraction, settings.partition_samples, partition)


def _add_detection(job, record, arrays, hierarchy, prior, data: Dataset, facts: dict) -> None:
    settings = job.variant.params.evaluate_density
    draws = settings.detection_samples
    protocol = record.protocol(
        f"detection-{draws}",
        {**facts, "draws": draws, "code": f"scikit-learn {version('scikit-learn')}", "positive": "outliers"},
    )
    progress = Progress(f"{job.title}: detection")

    def scores(split: str) -> dict[str, torch.Tensor]:
        x = data.pixels(split).to(job.device)
        stream = job.stream(f"detection {split}")
        return outlier_scores(log_weights(hierarchy, prior, x, draws, stream, redraw=True, progress=progress))

    normal = scores(settings.reference)
    for name in data.ood_sets:
        outliers = scores(f"ood/{name}")
        for score, values in outliers.items():
            arrays[f"score/{name}/{score}"] = values
            n = len(values) + len(normal[score])
            for metric, value in detection_metrics(normal[score].cpu().numpy(), values.cpu().numpy()).items():
                record.add(f"{metric}:{name}:{score}", value, n, protocol)
    arrays.update({f"score/{settings.reference}/{score}": values for score, values in normal.items()})


def outlier_scores(weights: LogWeights) -> dict[str, torch.Tensor]:
    """Scores that are high for outliers, each (images,), nats.

    ``elbo`` is −ELBO, ``f`` is −E_q[tilt], ``elbo+f`` their sum (log Z shifts all images alike and is left out), and
    ``llr>k`` the likelihood ratio LLR^{>k} of Havtorn et al. (2021), both sides importance-weighted with equal draws.
    """
    elbo, f = weights.gaussian.mean(1), weights.tilt.mean(1)
    full = importance_weighted(weights.gaussian)
    ratios = {f"llr>{k}": full - importance_weighted(row) for k, row in enumerate(weights.redrawn, 1)}
    return {"elbo": -elbo, "elbo+f": -(elbo + f), "f": -f, **{key: value.float() for key, value in ratios.items()}}
