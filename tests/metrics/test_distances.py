"""Distances between sets of features, against closed forms."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch

from jebm.errors import JebmError
from jebm.features.classifier import Classifier
from jebm.features.extraction import extract
from jebm.metrics.frechet import frechet
from jebm.metrics.kernel_distance import kernel_distance
from jebm.runtime.random import derive_seed, make_rng

pytestmark = pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")  # clean-fid's call of sqrtm


def normal(count, dimensions, *name):
    return np.random.default_rng(derive_seed("features", *name)).standard_normal((count, dimensions))


def exactly(mean, cov, count=400):
    """Features whose sample mean and sample covariance are exactly these."""
    raw = normal(count, len(mean), "exact", len(mean))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return white @ np.linalg.cholesky(cov).T + mean


def test_frechet_of_diagonal_gaussians():
    """|μ₁ − μ₂|² + Σ (σ₁ − σ₂)², by hand."""
    first, second = exactly([1.0, 0, -2], np.diag([1.0, 4, 9])), exactly([0.0, 0, 1], np.diag([4.0, 1, 9]))
    assert frechet(first, second) == pytest.approx(1 + 9 + 1 + 1, rel=1e-6)


def test_frechet_of_commuting_covariances():
    """With the same eigenvectors the distance is Σ (√λ₁ − √λ₂)² of the eigenvalues."""
    vectors, _ = np.linalg.qr(normal(4, 4, "rotation"))
    left, right = np.array([1.0, 2, 3, 4]), np.array([9.0, 0.5, 1, 4])
    covs = [vectors @ np.diag(values) @ vectors.T for values in (left, right)]
    expected = ((np.sqrt(left) - np.sqrt(right)) ** 2).sum()
    assert frechet(exactly(np.zeros(4), covs[0]), exactly(np.zeros(4), covs[1])) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_covariances_that_do_not_commute():
    """tr (C₁C₂)^½ is the sum of the roots of the eigenvalues of C₁C₂."""
    covs = [np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.3], [-0.3, 3.0]])]
    root = np.sqrt(np.linalg.eigvals(covs[0] @ covs[1]).real).sum()
    expected = np.trace(covs[0]) + np.trace(covs[1]) - 2 * root
    assert frechet(exactly(np.zeros(2), covs[0]), exactly(np.zeros(2), covs[1])) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_identical_sets_is_zero_and_symmetric():
    features, other = normal(200, 5, "a"), normal(300, 5, "b") + 0.3
    assert frechet(features, features) == pytest.approx(0, abs=1e-6)
    assert frechet(features, other) == pytest.approx(frechet(other, features), rel=1e-6)
    assert frechet(features, other) > 0.1


@pytest.mark.parametrize("short", [0, 1])
def test_frechet_refuses_too_few_rows_for_a_covariance(short):
    sets = [normal(50, 8, "a"), normal(50, 8, "b")]
    sets[short] = sets[short][:8]
    with pytest.raises(JebmError, match=r"8 images are too few for a covariance of 8 features"):
        frechet(*sets)


def test_kernel_distance_of_one_whole_subset_is_the_unbiased_estimator():
    """As clean-fid weighs it: KID of the whole sets with the diagonal left out, by explicit loops."""
    x, y = normal(6, 3, "x"), normal(6, 3, "y") + 0.5

    def kernel(a, b):
        return (a @ b / 3 + 1) ** 3

    within = sum(2 * kernel(s[i], s[j]) for s in (x, y) for i, j in combinations(range(6), 2)) / (6 * 5)
    across = sum(kernel(a, b) for a in x for b in y) / 36
    assert kernel_distance(x, y, 1, 100, 0) == pytest.approx(within - 2 * across, rel=1e-9)


def test_kernel_distance_repeats_with_its_seed():
    x, y = normal(200, 4, "x"), normal(150, 4, "y")
    assert kernel_distance(x, y, 5, 50, 3) == kernel_distance(x, y, 5, 50, 3)
    assert kernel_distance(x, y, 5, 50, 3) != kernel_distance(x, y, 5, 50, 4)


def test_kernel_distance_leaves_the_global_stream_where_it_was():
    x, y = normal(50, 4, "x"), normal(50, 4, "y")
    np.random.seed(11)
    expected = np.random.random(3)
    np.random.seed(11)
    kernel_distance(x, y, 3, 20, 0)
    assert np.array_equal(np.random.random(3), expected)
    np.random.seed(11)
    with pytest.raises(ValueError, match="mismatch"):
        kernel_distance(x, y[:, :3], 3, 20, 0)
    assert np.array_equal(np.random.random(3), expected)


def test_kernel_distance_is_near_zero_on_one_distribution_and_not_on_two():
    """40 pairs of sets of one distribution: their mean is 0 within 5 standard errors, and may be negative."""
    values = np.array([kernel_distance(normal(60, 4, "x", i), normal(60, 4, "y", i), 1, 60, 0) for i in range(40)])
    assert abs(values.mean()) < 5 * values.std(ddof=1) / math.sqrt(40)
    assert (values < 0).any()
    assert kernel_distance(normal(60, 4, "x"), normal(60, 4, "y") + 1.0, 1, 60, 0) > 5 * values.std(ddof=1)


def test_features_in_batches_are_those_of_the_whole():
    classifier = Classifier((1, 8, 8), 10, channels=4, dimensions=6)
    classifier.initialise(make_rng("classifier"))
    images = torch.randint(17, (23, 1, 8, 8), generator=make_rng("images"), dtype=torch.uint8)
    features = extract(classifier, images, 17, "cpu", batch_size=5)
    assert features.dtype == np.float64
    assert features.shape == (23, 6)
    with torch.no_grad():
        expected = torch.relu(classifier.body(images / 8.0 - 1)).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5)
    assert (features > 0).any()
    assert (features >= 0).all()
