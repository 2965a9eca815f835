"""Differences between variants on the same images, from what is stored for each image, with paired intervals."""

from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np

from jebm.config.tables import Differences
from jebm.errors import JebmError
from jebm.io.filenames import ARRAYS
from jebm.io.tensors import read_tensors
from jebm.metrics.detection import detection_metrics, interval, resampled
from jebm.metrics.records import MetricRecord
from jebm.pipeline.study import StudyPlan
from jebm.runtime.random import make_rng


def differences(plan: StudyPlan, only_finished: bool = False) -> Iterator[tuple[str, MetricRecord]]:
    """(variant, record) for each variant and seed that the study compares with another variant at the same seed.

    The values are above 0 if the variant is better, for the last model of each training. ``iw_bound_difference`` is the
    difference of the bounds on log p(x); there is none if one of the two has no log Z that can be relied on.
    ``auroc_difference`` and ``auprc_difference`` are those of the outlier scores that the evaluation has stored.

    Args:
        only_finished: leave out pairs whose values are not there yet.
    """
    compare = _bounds if plan.study.differences and plan.study.differences.of_bounds else _detection
    for variant, (own, other) in plan.compared().items():
        for seed in plan.seeds:
            paths = [stage.run_folder(seed) / ARRAYS for stage in (own, other)]
            if only_finished and not all(path.exists() for path in paths):
                continue
            yield variant, compare(plan, variant, seed, paths)


def _bounds(plan: StudyPlan, variant: str, seed: int, paths: list[Path]) -> MetricRecord:
    """The difference of the importance-weighted bounds, nats per image.

    Both bounds have the same images and posterior draws. The 95 % interval contains the standard error of the mean
    difference over the images, and those of both log Z.
    """
    spec, record, params = plan.study.differences, MetricRecord(seed), plan.variants[variant].params
    stored = [read_tensors(path, {"iw_bound", "log_z_se"}.__contains__)[0] for path in paths]
    if not all(stored):
        return record
    protocol = record.protocol(
        "paired-bounds",
        {
            "less": spec.less[variant],
            "data": plan.variants[variant].dataset.id,
            "reference": params.evaluate_density.reference,
            "draws": params.evaluate_density.importance_samples,
            "interval": "95 %, from the standard error over images of the paired difference and those of both log Z",
        },
    )
    values = (stored[0]["iw_bound"] - stored[1]["iw_bound"]).numpy()
    error = 1.96 * np.sqrt(values.var(ddof=1) / len(values) + sum(float(one["log_z_se"]) ** 2 for one in stored))
    mean = float(values.mean())
    record.add("iw_bound_difference", mean, len(values), protocol, (mean - error, mean + error))
    return record


def _detection(plan: StudyPlan, variant: str, seed: int, paths: list[Path]) -> MetricRecord:
    """The differences of AUROC and AUPRC of each score.

    Both variants are measured on the same bootstrap resamples of the images, so the intervals are those of the paired
    difference.
    """
    spec, record = plan.study.differences, MetricRecord(seed)
    params, images = plan.variants[variant].params, plan.variants[variant].dataset.id
    reference = params.evaluations[spec.evaluation].reference
    own, other = (_scores(path, spec, label) for path, label in zip(paths, ("own", "other"), strict=True))
    protocol = record.protocol(
        "paired-detection",
        {
            "less": spec.less[variant],
            "data": images,
            "reference": reference,
            "models": "the last of each training",
            "positive": "outliers",
            "interval": f"95 %, percentiles of {spec.resamples} paired bootstrap resamples of the images",
            "code": f"scikit-learn {version('scikit-learn')}",
        },
    )
    normal = own[reference] | other[reference]
    for name in sorted(own.keys() - {reference}):
        outliers = own[name] | other[name]
        draws = resampled(normal, outliers, spec.resamples, make_rng(images, seed, f"differences {name}"))
        values = {key: detection_metrics(normal[key], outliers[key]) for key in normal}
        for score, measure in product(spec.scores, draws):
            first, second = f"own {score}", f"other {score}"
            ends = interval(draws[measure][first] - draws[measure][second])
            difference, n = values[first][measure] - values[second][measure], len(normal[first]) + len(outliers[first])
            record.add(f"{measure}_difference", difference, n, protocol, ends, set=name, score=score)
    return record


def _scores(path: Path, spec: Differences, label: str) -> dict[str, dict[str, np.ndarray]]:
    """Set → the scores that are compared, (images,), high for outliers, as ``own kl+f`` for the label ``own``.

    Raises:
        JebmError: the evaluation has not stored one of them.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, values in read_tensors(path, lambda key: key.startswith("score/"))[0].items():
        _, name, score = key.split("/", 2)
        found.setdefault(name, {})[score] = values.numpy()
    for score in spec.scores:
        if any(score not in own for own in found.values()) or not found:
            raise JebmError(f"differences.scores: '{score}' is not among the scores in {path}")
    return {name: {f"{label} {score}": own[score] for score in spec.scores} for name, own in found.items()}
