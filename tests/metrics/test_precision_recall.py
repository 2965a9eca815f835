"""Precision and recall by nearest neighbours, against known cases and a transcription of the definition."""

import numpy as np
import pytest
import torch

from jebm.errors import JebmError
from jebm.metrics.precision_recall import precision_recall
from jebm.runtime.random import make_rng


def normal(rows, columns, *purpose):
    return torch.randn(rows, columns, generator=make_rng("precision", *purpose), dtype=torch.float64).numpy()


def by_definition(generated, real, k):
    """Loops over pairs, as Kynkäänniemi et al. (2019), eq. 1 and 2."""

    def inside(points, centres):
        radii = [sorted(np.linalg.norm(c - centres, axis=1))[k] for c in centres]  # the nearest is itself
        return np.mean([any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii, strict=True)) for p in points])

    return inside(generated, real), inside(real, generated)


@pytest.mark.parametrize(("k", "chunk"), [(1, 1000), (3, 7), (5, 1)])
def test_is_the_definition(k, chunk):
    generated, real = 0.8 * normal(40, 3, "generated") + 1, normal(55, 3, "real") + 100
    generated += 100
    expected = by_definition(generated, real, k)
    assert 0 < expected[1] < expected[0] < 1
    assert precision_recall(generated, real, k, chunk=chunk) == pytest.approx(expected, abs=1e-12)


def test_a_set_against_itself_and_against_one_far_away():
    features = normal(30, 5, "set")
    assert precision_recall(features, features) == (1.0, 1.0)
    assert precision_recall(features, features + 100) == (0.0, 0.0)


def test_samples_of_one_of_two_modes_are_precise_and_recall_half():
    real = np.concatenate([normal(50, 2, "left"), normal(50, 2, "right") + 50])
    precision, recall = precision_recall(0.1 * real[:50], real)
    assert precision == 1.0
    assert recall <= 0.5


def test_samples_that_spread_too_far_recall_all_and_are_imprecise():
    precision, recall = precision_recall(10 * normal(300, 2, "wide"), normal(300, 2, "narrow"))
    assert precision < 0.2
    assert recall > 0.95


def test_too_few_features_are_refused():
    with pytest.raises(JebmError, match="3 samples and 10 real images are too few for 3 nearest neighbours"):
        precision_recall(normal(3, 2), normal(10, 2))
