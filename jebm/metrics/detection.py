"""How well a score separates two sets: AUROC, AUPRC and FPR at 80 % TPR, with bootstrap intervals."""

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from jebm.errors import JebmError
from jebm.metrics.likelihood import LogWeights, importance_weighted

COUNTED = 2_000_000
"""Number of resample counts that are processed at once, which bounds the memory."""


def detection_metrics(normal: np.ndarray, outliers: np.ndarray) -> dict[str, float]:
    """Metrics of an outlier score (high means outlier), by scikit-learn; the outliers are the positive class.

    ``fpr80`` is the smallest false-positive rate among thresholds that find at least 80 % of the outliers.

    Raises:
        JebmError: a score is not finite, or one of the sets is empty.
    """
    if not len(normal) or not len(outliers):
        raise JebmError(f"detection needs both kinds of scores: {len(normal)} normal, {len(outliers)} outliers")
    scores = np.concatenate([normal, outliers])
    if not np.isfinite(scores).all():
        raise JebmError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} detection scores are not finite")
    labels = np.concatenate([np.zeros(len(normal)), np.ones(len(outliers))])
    false_positive, true_positive, _ = roc_curve(labels, scores, drop_intermediate=False)
    return {
        "auroc": float(roc_auc_score(labels, scores)),
        "auprc": float(average_precision_score(labels, scores)),
        "fpr80": float(false_positive[true_positive >= 0.8].min()),
    }


def outlier_scores(weights: LogWeights) -> dict[str, torch.Tensor]:
    """Scores that are high for outliers, each (images,), in nats.

    ``elbo`` is −ELBO, ``f`` is −E_q[tilt], and ``elbo+f`` is their sum (log Z shifts all images equally and is left
    out). ``llr>k`` is the likelihood ratio LLR^{>k} of Havtorn et al. (2021), with both bounds importance-weighted by
    equally many draws.
    """
    elbo, f = weights.gaussian.mean(1), weights.tilt.mean(1)
    full = importance_weighted(weights.gaussian)
    ratios = {f"llr>{k}": full - importance_weighted(row) for k, row in enumerate(weights.redrawn, 1)}
    return {"elbo": -elbo, "elbo+f": -(elbo + f), "f": -f, **{key: value.float() for key, value in ratios.items()}}


def resampled(
    normal: Mapping[str, np.ndarray], outliers: Mapping[str, np.ndarray], resamples: int, rng: torch.Generator
) -> dict[str, dict[str, np.ndarray]]:
    """AUROC and AUPRC of each score on bootstrap resamples of the images: metric → score → (resamples,).

    Both sets are resampled with replacement to their own sizes. All scores use the same resamples, so differences
    between scores are paired.
    """
    counts = [_counts(len(next(iter(of.values()))), resamples, rng) for of in (normal, outliers)]
    found: dict[str, dict[str, np.ndarray]] = {"auroc": {}, "auprc": {}}
    rows = max(1, COUNTED // (counts[0].shape[1] + counts[1].shape[1]))
    for score in normal:
        parts = [
            _areas(normal[score], outliers[score], *(count[start : start + rows] for count in counts))
            for start in range(0, resamples, rows)
        ]
        for measure, values in zip(found, zip(*parts, strict=True), strict=True):
            found[measure][score] = np.concatenate(values)
    return found


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap values (Efron and Tibshirani, 1993)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _counts(size: int, resamples: int, rng: torch.Generator) -> np.ndarray:
    """How often each item occurs in each resample, (resamples, size)."""
    drawn = torch.randint(size, (resamples, size), generator=rng, device=rng.device)
    counts = torch.zeros(resamples, size, device=drawn.device)
    return counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=counts.dtype)).cpu().numpy()


def _areas(
    normal: np.ndarray, outliers: np.ndarray, normal_counts: np.ndarray, outlier_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AUROC (ties count half) and average precision, (resamples,), where item i occurs counts[:, i] times."""
    scores = np.concatenate([normal, outliers])
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # last index of each run of equal scores
    zeros = [np.zeros_like(counts) for counts in (normal_counts, outlier_counts)]
    false = np.concatenate([normal_counts, zeros[1]], 1)[:, order].cumsum(1)[:, last].astype(np.float64)
    true = np.concatenate([zeros[0], outlier_counts], 1)[:, order].cumsum(1)[:, last].astype(np.float64)
    more_false, more_true = np.diff(false, prepend=0), np.diff(true, prepend=0)
    auroc = (more_false * (true - more_true / 2)).sum(1) / (false[:, -1] * true[:, -1])
    auprc = (more_true * true / np.maximum(true + false, 1)).sum(1) / true[:, -1]
    return auroc, auprc
