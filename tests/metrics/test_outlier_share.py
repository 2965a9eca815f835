"""Areas under the precision–recall curve: by hand, by the closed form of their minimum, by thinning."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from jebm.metrics.outlier_share import chance_and_minimum, precision_recall_areas
from jebm.runtime.random import derive_seed


def test_trapezoid_by_hand():
    """Ranking +−+: the curve runs through (0, 1), (½, 1), (½, ½), (1, ⅔)."""
    found = precision_recall_areas(np.array([2.0]), np.array([3.0, 1.0]), 1.0)
    assert found["auprc_trapezoid"] == pytest.approx(0.5 + 0.5 * (1 / 2 + 2 / 3) / 2)
    assert found["auprc_rare"] == pytest.approx(0.5 + 0.5 * 2 / 3)  # of weight 1: average precision


def test_rare_by_hand():
    """Ranking +−+ with outliers of weight ½: precision 1 at recall ½ and 1 / (1 + 1) at recall 1."""
    assert precision_recall_areas(np.array([2.0]), np.array([3.0, 1.0]), 0.5)["auprc_rare"] == pytest.approx(0.75)


def test_rare_is_the_area_of_a_set_with_that_fraction_of_the_outliers():
    """With five copies of each outlier, a weight of a fifth gives the area of one copy, ties counted together."""
    rng = np.random.default_rng(derive_seed("rare"))
    normal, outliers = rng.normal(0, 1, 300), rng.normal(1, 1, 80)
    labels, scores = np.r_[np.zeros(300), np.ones(80)], np.r_[normal, outliers]
    found = precision_recall_areas(normal, np.repeat(outliers, 5), 0.2)
    assert found["auprc_rare"] == pytest.approx(average_precision_score(labels, scores))


@pytest.mark.parametrize(("normal", "outliers"), [(5, 5), (40, 3), (12425, 7877)])
def test_worst_ranking_has_the_minimum(normal, outliers):
    found = chance_and_minimum(normal, outliers)
    labels, scores = np.r_[np.zeros(normal), np.ones(outliers)], -np.arange(normal + outliers)
    assert found["auprc_minimum"] == pytest.approx(average_precision_score(labels, scores))
    ratio = outliers / normal  # Boyd et al. (2012): 1 − log(1 + r) / r for many images
    assert found["auprc_minimum"] == pytest.approx(1 - math.log1p(ratio) / ratio, abs=1 / outliers)
    assert found["auprc_chance"] == outliers / (normal + outliers)


def test_random_scores_have_the_area_of_chance():
    rng = np.random.default_rng(derive_seed("chance"))
    areas = [
        average_precision_score(np.r_[np.zeros(300), np.ones(200)], rng.permutation(500).astype(float))
        for _ in range(50)
    ]
    assert np.mean(areas) == pytest.approx(chance_and_minimum(300, 200)["auprc_chance"], abs=0.02)
