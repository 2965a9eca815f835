"""How well a score tells two sets apart: AUROC, AUPRC and FPR at 80 % TPR, by scikit-learn."""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from jebm.errors import JebmError


def detection_metrics(normal: np.ndarray, outliers: np.ndarray) -> dict[str, float]:
    """Metrics of an outlier score (high means outlier); the outliers are the positive class.

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
