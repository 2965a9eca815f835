"""Outlier detectors without a generative model, fitted on the training split, as baselines for learned scores."""

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest


class Mahalanobis:
    """Squared Mahalanobis distance to the nearest class mean, with one covariance for all classes (Lee et al., 2018).

    The within-class covariance is shrunk (Ledoit and Wolf, 2004), since features may be constant on some data.

    Args:
        features: features of the training split, (count, dimensions).
        labels: classes of the training split, (count,); if all are equal, the distance is that to the overall mean.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray):
        self.means = np.stack([features[labels == label].mean(0) for label in np.unique(labels)])
        centred = features - self.means[np.searchsorted(np.unique(labels), labels)]
        self.precision = LedoitWolf(assume_centered=True).fit(centred).precision_

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Scores (count,), high for outliers."""
        rows = max(1, 2_000_000 // self.means.size)  # images per block, which bounds the memory
        return np.concatenate([self._nearest(features[i : i + rows]) for i in range(0, len(features), rows)])

    def _nearest(self, features: np.ndarray) -> np.ndarray:
        difference = features[:, None] - self.means
        return np.einsum("nci,ij,ncj->nc", difference, self.precision, difference).min(1)


class Forest:
    """Isolation forest (Liu et al., 2008) on flattened data.

    Args:
        data: the training split, (count, dimensions).
        trees: number of trees.
        seed: random seed of the forest.
    """

    def __init__(self, data: np.ndarray, trees: int, seed: int):
        self.forest = IsolationForest(n_estimators=trees, random_state=seed).fit(data)

    def __call__(self, data: np.ndarray) -> np.ndarray:
        """Scores (count,), high for outliers."""
        return -self.forest.score_samples(data)
