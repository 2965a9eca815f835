"""Statistics of the features of many images, collected batch by batch: count, mean, covariance, and a subset of the
features."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch

from jebm.errors import JebmError
from jebm.runtime.distributed import ranks
from jebm.runtime.random import make_rng


class Statistics(NamedTuple):
    """Statistics of one set of images; d is the number of features."""

    count: int
    mean: np.ndarray
    """(d,), float64."""
    covariance: np.ndarray
    """(d, d), float64, unbiased."""
    kept: np.ndarray
    """(≤ count, d): features of the images that :func:`chosen_rows` selects, in their order."""

    @property
    def varying(self) -> int:
        """Number of features that are not constant, which bounds the rank of the covariance."""
        return int((np.diag(self.covariance) > 0).sum())

    @property
    def singular(self) -> bool:
        """Whether there are too few images for a covariance of full rank in the features that vary."""
        return self.count <= self.varying


ZERO = torch.zeros(())


class Moments:
    """Mean and scatter in float64, updated by batches without cancellation (Chan et al., 1983)."""

    def __init__(self, count: int = 0, mean: torch.Tensor = ZERO, scatter: torch.Tensor = ZERO):
        self.count, self.mean, self.scatter = count, mean, scatter

    def add(self, features: torch.Tensor) -> None:
        """Add a batch (batch, d), on its device.

        Raises:
            JebmError: a feature is not finite.
        """
        if not torch.isfinite(features).all():
            bad = int((~torch.isfinite(features)).any(1).sum())
            raise JebmError(f"the features of {bad} of {len(features)} images are not finite (from image {self.count})")
        batch = features.double() if features.device.type != "mps" else features.cpu().double()
        mean = batch.mean(0)
        if not self.count:
            self.mean, self.scatter = torch.zeros_like(mean), mean.new_zeros(len(mean), len(mean))
        delta, total = mean - self.mean, self.count + len(batch)
        # Scatter of the batch around its own mean, and one more row for the distance of that mean from the total mean.
        rows = torch.cat([batch - mean, delta[None] * (self.count * len(batch) / total) ** 0.5])
        self.scatter.addmm_(rows.T, rows)
        self.mean += delta * (len(batch) / total)
        self.count = total

    def merge(self, count: int, mean: torch.Tensor, scatter: torch.Tensor) -> None:
        """Add the moments of other images: mean (d,) and scatter (d, d), the sum of (x − mean)(x − mean)ᵀ."""
        delta, total = mean - self.mean, self.count + count
        self.scatter += scatter + torch.outer(delta, delta) * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total


def chosen_rows(count: int, keep: int) -> torch.Tensor:
    """(count,) bool: the images whose features are kept. The choice is random, because images may be sorted by content,
    but depends only on the two numbers."""
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[torch.randperm(count, generator=make_rng("kept features", count, keep))[:keep]] = True
    return chosen


def gather(
    batches: Iterable[torch.Tensor],
    count: int,
    keep: int,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Statistics | None:
    """The statistics of ``count`` images from batches of their features, at most ``keep`` of which are kept.

    With several ranks, each provides the batches of its share of the images; rank 0 returns the statistics of all
    images, the others return None.

    Raises:
        JebmError: there are fewer than two images, or a feature is not finite.
    """
    if count < 2:
        raise JebmError(f"{count} images are too few for a covariance")
    part = ranks().shard_range(count)
    moments, chosen, kept, filled = Moments(), chosen_rows(count, keep)[part.start : part.stop], torch.empty(0), 0
    for batch in batches:
        if not moments.count:  # allocated once, since many small tensors would fragment the memory
            kept = torch.empty(int(chosen.sum()), batch.shape[1], dtype=batch.dtype)
        rows = batch.cpu()[chosen[moments.count : moments.count + len(batch)]]
        kept[filled : filled + len(rows)] = rows
        filled += len(rows)
        moments.add(batch)
        progress("features", moments.count, len(part))
    parts = ranks().gather_object((moments.count, moments.mean.cpu(), moments.scatter.cpu(), kept))
    if parts is None:
        return None
    moments, kept = Moments(*parts[0][:3]), parts[0][3]
    for other in parts[1:]:
        moments.merge(*other[:3])
        kept = torch.cat([kept, other[3]])
    covariance = moments.scatter / (moments.count - 1)
    return Statistics(moments.count, moments.mean.numpy(), covariance.numpy(), kept.numpy())


def frechet_of(first: Statistics, second: Statistics, allow_singular: bool = False) -> float:
    """|μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½); lower is better (Heusel et al., 2017).

    Raises:
        JebmError: a set has no more images than varying features, and ``allow_singular`` is false. Its covariance is
            then singular, and the value depends mostly on the number of images.
    """
    for one in (first, second):
        if one.singular and not allow_singular:
            raise JebmError(
                f"Fréchet distance: {one.count} images are too few for a covariance of {one.varying} features; "
                "evaluate_samples.allow_singular: true computes it nevertheless"
            )
    difference = first.mean - second.mean
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    return float(difference @ difference + traces - 2 * trace_of_root(first.covariance, second.covariance))


def trace_of_root(first: np.ndarray, second: np.ndarray) -> float:
    """tr (C₁ C₂)^½ of two covariances, which may be singular.

    C₁ C₂ has the same eigenvalues as the symmetric matrix Rᵀ C₂ R with R Rᵀ = C₁, which are real and not negative. The
    matrix C₁ C₂ itself is not symmetric and may have no square root if it is singular. A feature that is constant in
    one of the sets adds nothing.
    """
    vary = (np.diag(first) > 0) & (np.diag(second) > 0)
    first, second = first[np.ix_(vary, vary)], second[np.ix_(vary, vary)]
    if not vary.any():
        return 0.0
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(_positive(values))
    return float(np.sqrt(_positive(np.linalg.eigvalsh(root.T @ second @ root))).sum())


def _positive(eigenvalues: np.ndarray) -> np.ndarray:
    """Eigenvalues, with those that are rounding errors of 0 set to 0."""
    smallest = eigenvalues.max() * len(eigenvalues) * np.finfo(np.float64).eps
    return np.where(eigenvalues > smallest, eigenvalues, 0.0)
