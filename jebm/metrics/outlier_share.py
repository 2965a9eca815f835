"""Areas under the precision–recall curve, and what they owe to the share of outliers in the test set.

The area depends on this share: random scores have an area equal to it, and no ranking has less than a minimum that
grows with it (Boyd et al., 2012). Areas of test sets with other shares can't be compared.
"""

import numpy as np
from sklearn.metrics import auc, average_precision_score, precision_recall_curve


def precision_recall_areas(normal: np.ndarray, outliers: np.ndarray, weight: float) -> dict[str, float]:
    """Areas of a score (high means outlier) besides average precision; the outliers are the positive class.

    ``auprc_trapezoid`` interpolates precision linearly between the thresholds. It is at least average precision up to
    ties, and optimistic where few thresholds are far apart (Davis and Goadrich, 2006). ``auprc_rare`` is average
    precision with every outlier counted ``weight`` times: the expected precision at each threshold if only that
    fraction of the outliers were in the test set.

    Args:
        normal, outliers: finite scores, (images,).
        weight: above 0.
    """
    labels = np.concatenate([np.zeros(len(normal)), np.ones(len(outliers))])
    scores = np.concatenate([normal, outliers])
    precision, recall, _ = precision_recall_curve(labels, scores)
    rare = average_precision_score(labels, scores, sample_weight=np.where(labels == 1, weight, 1.0))
    return {"auprc_trapezoid": float(auc(recall, precision)), "auprc_rare": float(rare)}


def chance_and_minimum(normal: int, outliers: int) -> dict[str, float]:
    """``auprc_chance``, the average precision of random scores in expectation, up to terms of order log(n) / n: the
    share of the outliers; and ``auprc_minimum``, that of the worst ranking, which puts all normal images first: the
    mean of k / (k + normal) over k = 1 … outliers (Boyd et al., 2012)."""
    k = np.arange(1, outliers + 1)
    return {"auprc_chance": outliers / (normal + outliers), "auprc_minimum": float((k / (k + normal)).mean())}
