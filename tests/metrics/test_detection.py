"""Outlier detection: the metrics, the scores and their signs."""

import math

import numpy as np
import pytest
import torch
from oracles import LinearHierarchy
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.distributions import Normal

from jebm.errors import JebmError
from jebm.metrics.detection import detection_metrics, interval, outlier_scores, resampled
from jebm.metrics.likelihood import LogWeights, log_weights
from jebm.models.priors.gaussian import GaussianPrior
from jebm.runtime.random import derive_seed, make_rng


def test_perfect_scores():
    assert detection_metrics(np.arange(5.0), np.arange(5.0) + 10) == {"auroc": 1.0, "auprc": 1.0, "fpr80": 0.0}


def test_inverted_scores():
    found = detection_metrics(np.arange(5.0) + 10, np.arange(5.0))
    assert found["auroc"] == 0.0
    assert found["fpr80"] == 1.0
    assert found["auprc"] == pytest.approx(np.mean([k / (5 + k) for k in range(1, 6)]))


def test_all_scores_equal():
    assert detection_metrics(np.zeros(6), np.zeros(3)) == {
        "auroc": 0.5, "auprc": pytest.approx(1 / 3), "fpr80": 1.0,
    }  # fmt: skip


def test_metrics_agree_with_scikit_learn_on_tied_scores():
    rng = np.random.default_rng(derive_seed("ties"))
    normal, outliers = rng.integers(0, 6, 60).astype(float), rng.integers(1, 8, 40).astype(float)
    labels, scores = np.r_[np.zeros(60), np.ones(40)], np.r_[normal, outliers]
    found = detection_metrics(normal, outliers)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["auprc"] == pytest.approx(average_precision_score(labels, scores))


def test_auroc_is_the_chance_that_an_outlier_scores_higher():
    normal, outliers = np.array([0.0, 1, 1, 3]), np.array([1.0, 2, 3])
    wins = [(o > n) + 0.5 * (o == n) for o in outliers for n in normal]
    assert detection_metrics(normal, outliers)["auroc"] == pytest.approx(np.mean(wins))


def test_fpr80_by_hand():
    """4 of 5 outliers score at least 4; 2 of the 8 normals do."""
    normal = np.array([0.0, 1, 1, 2, 3, 3.5, 4, 6])
    assert detection_metrics(normal, np.array([9.0, 8, 5, 4, 0.5]))["fpr80"] == 2 / 8


def test_fpr80_is_the_definition_on_tied_scores():
    """The smallest false-positive rate over all thresholds that find 80 %, by trying every one of them."""
    rng = np.random.default_rng(derive_seed("fpr80"))
    sets = [(np.arange(5.0), np.arange(5.0))]  # a diagonal ROC curve
    sets += [(rng.integers(0, k, 20).astype(float), rng.integers(0, k, 15).astype(float)) for k in range(2, 20)]
    for normal, outliers in sets:
        thresholds = [t for t in np.r_[normal, outliers] if (outliers >= t).mean() >= 0.8]
        expected = min((normal >= t).mean() for t in thresholds)
        assert detection_metrics(normal, outliers)["fpr80"] == pytest.approx(expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused_and_counted(bad):
    with pytest.raises(JebmError, match="2 of 7 detection scores are not finite"):
        detection_metrics(np.array([0.0, bad, 1.0]), np.array([0.0, 1, 2, bad]))


def test_outlier_scores_by_hand():
    """Two images, two draws, two layers; scores are high where the bound or the energy is low."""
    weights = LogWeights(
        gaussian=torch.tensor([[-10.0, -12.0], [-30.0, -34.0]]),
        tilt=torch.tensor([[1.0, 3.0], [-5.0, -7.0]]),
        redrawn=torch.tensor([[[-11.0, -13.0], [-31.0, -31.0]]]),
    )
    scores = outlier_scores(weights)
    assert scores["elbo"].tolist() == [11, 32]
    assert scores["f"].tolist() == [-2, 6]
    assert scores["elbo+f"].tolist() == [9, 38]

    def average(*logs):
        return math.log(sum(map(math.exp, logs)) / len(logs))

    expected = [average(-10, -12) - average(-11, -13), average(-30, -34) - average(-31, -31)]
    assert scores["llr>1"].tolist() == pytest.approx(expected, abs=1e-5)
    assert set(scores) == {"elbo", "f", "elbo+f", "llr>1"}


def test_redrawn_weight_is_the_bound_with_the_lower_layers_from_the_prior():
    """log p(x | z) + Σ_{i>k} [log N(ε_i) − log q(ε_i | ε_{>i}, x)], with k = 1, 2 lowest layers redrawn."""
    hierarchy = LinearHierarchy((3, 2, 2))
    x = torch.randn(4, 1, 1, 4, generator=make_rng("x"))
    found = log_weights(hierarchy, GaussianPrior(hierarchy), x, 1, make_rng("redraw"), redraw=True)
    rng, standard = make_rng("redraw"), Normal(0.0, 1.0)
    posterior = hierarchy.infer(x, rng)
    ratio = [standard.log_prob(e).sum(1) - posterior.log_q[:, i] for i, e in enumerate(posterior.eps)]
    for k in (1, 2):
        noise = torch.randn(4, 7, generator=rng)
        low = [noise[:, :3], noise[:, 3:5]][:k]
        top = hierarchy.top_down((*low, *posterior.eps[k:]))
        expected = hierarchy.decode(top).log_prob(x) + sum(ratio[k:])
        torch.testing.assert_close(found.redrawn[k - 1, :, 0].double(), expected, rtol=0, atol=1e-4)
    assert found.redrawn.shape == (2, 4, 1)


def test_likelihood_ratio_of_one_layer_does_not_exist():
    hierarchy = LinearHierarchy((3,))
    x = torch.randn(4, 1, 1, 4, generator=make_rng("x"))
    weights = log_weights(hierarchy, GaussianPrior(hierarchy), x, 3, make_rng("one"), redraw=True)
    assert weights.redrawn.shape == (0, 4, 3)
    assert set(outlier_scores(weights)) == {"elbo", "f", "elbo+f"}


# Intervals -----------------------------------------------------------------------------------------------------------


def test_resampled_areas_are_those_of_scikit_learn_on_tied_scores():
    """Every resample, with items repeated as often as they were drawn, by the same stream."""
    rng = np.random.default_rng(derive_seed("areas"))
    normal, outliers = {"s": rng.integers(0, 6, 30).astype(float)}, {"s": rng.integers(1, 8, 20).astype(float)}
    found, rng = resampled(normal, outliers, 8, make_rng("resample")), make_rng("resample")
    drawn = [torch.randint(size, (8, size), generator=rng).numpy() for size in (30, 20)]
    for i in range(8):
        scores = np.r_[normal["s"][drawn[0][i]], outliers["s"][drawn[1][i]]]
        labels = np.r_[np.zeros(30), np.ones(20)]
        assert found["auroc"]["s"][i] == pytest.approx(roc_auc_score(labels, scores))
        assert found["auprc"]["s"][i] == pytest.approx(average_precision_score(labels, scores))


def test_resamples_are_paired_over_scores():
    """A score and a monotone function of it have equal areas on every resample; on separate ones they would not."""
    rng = np.random.default_rng(derive_seed("paired"))
    normal, outliers = rng.normal(size=40), rng.normal(size=30) + 1
    scores = [{"s": values, "exp": np.exp(values)} for values in (normal, outliers)]
    found = resampled(*scores, 200, make_rng("paired"))
    for values in found.values():
        assert np.array_equal(values["s"], values["exp"])
        assert values["s"].std() > 0.01


def test_bootstrap_deviation_is_that_of_fresh_sets():
    """Two normals a deviation apart: AUROC Φ(1/√2), and its spread over independent draws of both sets."""
    n, m, d = 150, 100, 1.0
    rng = np.random.default_rng(derive_seed("binormal"))
    fresh_n, fresh_o = rng.normal(size=(400, n)), rng.normal(size=(400, m)) + d
    aurocs = [detection_metrics(a, b)["auroc"] for a, b in zip(fresh_n, fresh_o, strict=True)]
    assert np.mean(aurocs) == pytest.approx(norm.cdf(d / 2**0.5), abs=5 * np.std(aurocs) / 400**0.5)
    sds = []
    for i in range(10):
        own = resampled({"s": fresh_n[i]}, {"s": fresh_o[i]}, 300, make_rng("binormal", i))
        sds.append(own["auroc"]["s"].std())
    # The deviation of 400 values is known to 1/√800 of it, the mean of ten bootstrap ones to their own spread.
    error = (1 / 800 + np.var(sds) / np.mean(sds) ** 2 / 10) ** 0.5
    assert np.mean(sds) == pytest.approx(np.std(aurocs), rel=5 * error)


def test_interval_holds_the_middle_95_percent():
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))
    assert interval(np.ones(10)) == (1.0, 1.0)
