"""The detectors that need no generator."""

import numpy as np
import pytest

from jebm.metrics.baselines import Forest, Mahalanobis
from jebm.runtime.random import derive_seed


def normals(name, count, dimensions):
    return np.random.default_rng(derive_seed("baselines", name)).normal(size=(count, dimensions))


def test_mahalanobis_of_one_class_is_the_distance_under_its_moments():
    """With many rows the shrinkage goes away: the distance is that of the known mean and covariance."""
    factor = np.array([[2.0, 0, 0], [1, 1, 0], [0, 0.5, 0.3]])
    train = normals("train", 20_000, 3) @ factor.T + 5
    points = normals("points", 50, 3) * 3
    expected = np.square(np.linalg.solve(factor, (points - 5).T)).sum(0)
    found = Mahalanobis(train, np.zeros(20_000, int))(points)
    # The largest relative error of a covariance from n rows is about 2√(d/n) = 2.4 %.
    np.testing.assert_allclose(found, expected, rtol=0.06)


def test_mahalanobis_takes_the_nearest_class_and_the_covariance_within_classes():
    """Two classes far apart, with a class number missing between: their distance does not widen the covariance."""
    labels = np.repeat([0, 4], 10_000)
    train = normals("two", 20_000, 2) + np.where(labels[:, None] == 4, 100.0, 0.0)
    found = Mahalanobis(train, labels)(np.array([[0.0, 0], [100, 100], [3, 0], [100, 104], [50, 50]]))
    np.testing.assert_allclose(found, [0, 0, 9, 16, 5000], rtol=0.1, atol=0.02)


def test_mahalanobis_stands_a_feature_that_is_constant():
    train = normals("constant", 200, 3)
    train[:, 1] = 0
    found = Mahalanobis(train, np.zeros(200, int))(np.array([[0.0, 0, 0], [0, 1, 0]]))
    assert np.isfinite(found).all()
    assert found[1] > found[0]


def test_forest_ranks_what_is_far_first_and_depends_on_its_seed_only():
    train, far = normals("forest", 300, 4), normals("far", 30, 4) + 6
    np.random.seed(0)
    score = Forest(train, 50, 3)
    assert score(far).min() > np.median(score(train))
    np.random.seed(1)
    assert np.array_equal(Forest(train, 50, 3)(far), score(far))
    assert not np.array_equal(Forest(train, 50, 4)(far), score(far))


def test_mahalanobis_needs_a_label_for_each_row():
    with pytest.raises(IndexError):
        Mahalanobis(normals("labels", 10, 2), np.zeros(9, int))
