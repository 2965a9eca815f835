"""The anomaly protocol: scores by hand where q has no spread, known orderings, and means over models."""

import math

import pytest
import torch
from measured import by_name, intervals
from outliers import SHAPE, Along, make_data, make_energy, make_hierarchy

from jebm.errors import JebmError
from jebm.evaluations.anomaly import Anomaly
from jebm.evaluations.base import Subject
from jebm.features.identity import Identity
from jebm.metrics import likelihood
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import flatten, standard_normal_log_prob
from jebm.models.backbones.perceptron import PerceptronHierarchy
from jebm.models.priors.gaussian import GaussianPrior
from jebm.runtime.random import make_rng

KEYS = ("log-joint", "elbo", "elbo+f", "iw", "iw+f", "f", "log-prior", "kl+f", "kl+base")
OF_LAYERS = ("reconstruction", "kl_1", "kl_2")


def measure(hierarchy, prior, data=None, snapshots=tuple, draws=4):
    data = data or make_data()
    space, rng = Identity(SHAPE, 2), lambda purpose: make_rng("anomaly", purpose)
    subject = Subject(data, hierarchy, prior, space, rng, "cpu", "test", snapshots)
    record = MetricRecord(1)
    arrays = Anomaly(draws=draws).evaluate(subject, record)
    return by_name(record.values), arrays, record


def test_scores_by_hand_where_q_is_a_point():
    """With log s = −9 all draws agree, and log p(x, z) is a plain formula in z, the bounds others in ε."""
    hierarchy = make_hierarchy(spread=-9.0)
    prior, data = make_energy(hierarchy), make_data()
    _, arrays, _ = measure(hierarchy, prior, data)
    x = data.pixels("ood/high")
    posterior = hierarchy.infer(x, make_rng("another stream"))
    f = prior.energy(posterior.top)
    log_px = hierarchy.decode(posterior.top).log_prob(x)

    def check(score, expected, atol=2e-2):
        torch.testing.assert_close(arrays[f"score/high/{score}"], expected.double(), rtol=2e-3, atol=atol)

    check("f", -f)
    check("f_1", -prior.energy.terms(posterior.top)[:, 0])
    check("reconstruction", (hierarchy.decode(posterior.top).mean - x).flatten(1).square().sum(1))
    check("log-prior", -(f + standard_normal_log_prob(flatten(posterior.eps))))
    check("kl_2", posterior.kl[:, 1])
    check("log-joint", -(log_px + f + hierarchy.log_prob(posterior.top.z)))
    # E_q[log q] of a Gaussian: −½ log 2πe − log s a dimension, five of them with log s = −9.
    elbo = log_px + standard_normal_log_prob(flatten(posterior.eps)) + 5 * (0.5 * math.log(2 * math.pi * math.e) - 9)
    check("elbo", -elbo, atol=4.0)  # of the draws of ½ξ² there are 4 × 5: five standard errors of their mean
    torch.testing.assert_close(
        arrays["score/high/elbo+f"], arrays["score/high/elbo"] + arrays["score/high/f"], rtol=0, atol=1e-6
    )
    kl = arrays["score/high/kl+base"]  # of the same draws
    torch.testing.assert_close(kl - arrays["score/high/kl+f"], f.double(), rtol=2e-3, atol=2e-2)
    rest = arrays["score/high/elbo+f"] - arrays["score/high/kl+f"]
    torch.testing.assert_close(rest, -log_px.double(), rtol=2e-3, atol=2e-2)
    assert (arrays["score/high/iw"] <= arrays["score/high/elbo"] + 1e-9).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_energy_that_outweighs_all_else_finds_the_outliers_or_the_normal_ones(sign):
    hierarchy = make_hierarchy(spread=-3.0)
    prior, data, rng = make_energy(hierarchy), make_data(), make_rng("which way")
    bright, dark = (hierarchy.infer(data.pixels(s), rng).top.z[0].mean(0) for s in ("ood/high", "test"))
    prior.energy = Along(1e4 * sign * (dark - bright))
    values, _, _ = measure(hierarchy, prior)
    for score in ("log-joint", "elbo+f", "f"):
        assert sign * (values[f"auroc high {score}"] - 0.5) > 0.2
        assert values[f"auroc high {score}"] == pytest.approx(values["auroc high f"], abs=0.02)
    assert values["auroc high elbo"] == measure(hierarchy, GaussianPrior(hierarchy))[0]["auroc high elbo"]


def test_values_are_means_over_the_models_and_each_model_has_its_own():
    first, second = make_hierarchy(), make_hierarchy(spread=-2.0)
    models = {300: (first, make_energy(first)), 400: (second, GaussianPrior(second))}
    single = {step: measure(*model)[0] for step, model in models.items()}
    values, arrays, record = measure(
        second, GaussianPrior(second), snapshots=lambda: ((s, *m) for s, m in models.items())
    )
    for name in ("high", "same"):
        for score in (*KEYS, *OF_LAYERS):
            for of in ("auroc", "auprc", "auprc_trapezoid", "auprc_rare"):
                own = [single[step][f"{of} {name} {score}"] for step in models]
                assert values[f"{of} {name} {score}"] == pytest.approx(sum(own) / 2, abs=1e-12)
                assert [values[f"{of} {name} {score} {step}"] for step in models] == own
    assert {f"score/{name}/{score}" for name in ("test", "high", "same") for score in (*KEYS, *OF_LAYERS)} == set(
        arrays
    )
    assert values["auprc_chance high"] == 0.4
    (protocol,) = record.protocols.values()
    assert protocol["models"] == "mean over 2 snapshots of training"
    assert {value["n"] for value in record.values if value["set"] == "high"} == {100}


def test_without_snapshots_the_published_model_is_measured_and_the_protocol_says_so():
    hierarchy = make_hierarchy()
    _, _, record = measure(hierarchy, GaussianPrior(hierarchy))
    (protocol,) = record.protocols.values()
    assert protocol["models"] == "the last"


def test_gaussian_prior_has_no_energy_to_score_by():
    hierarchy = make_hierarchy()
    values, arrays, _ = measure(hierarchy, GaussianPrior(hierarchy))
    assert values["auroc high f"] == 0.5
    assert torch.equal(arrays["score/high/elbo"], arrays["score/high/elbo+f"])


def test_small_batches_give_the_scores_of_one_batch_where_q_is_a_point(monkeypatch):
    hierarchy = make_hierarchy(spread=-9.0)
    prior = make_energy(hierarchy)
    whole = measure(hierarchy, prior)[1]
    monkeypatch.setattr(PerceptronHierarchy, "max_batch_size", lambda self, most=2000: 7)
    parts = measure(hierarchy, prior)[1]
    for name in ("f", "log-joint"):
        torch.testing.assert_close(parts[f"score/high/{name}"], whole[f"score/high/{name}"], rtol=2e-3, atol=2e-2)


def test_importance_weights_in_small_batches_are_those_of_one(monkeypatch):
    """The same images in the same order; log p(x, z) agrees where q is a point, and the shapes always."""
    hierarchy, x = make_hierarchy(spread=-9.0), make_data().pixels("ood/high")
    prior, seen = make_energy(hierarchy), []
    whole = likelihood.log_weights(hierarchy, prior, x, 3, make_rng("weights"), redraw=True)
    monkeypatch.setattr(PerceptronHierarchy, "max_batch_size", lambda self, most=2000: 7)
    tell = lambda what, done, total: seen.append((done, total))  # noqa: E731
    parts = likelihood.log_weights(hierarchy, prior, x, 3, make_rng("weights"), redraw=True, progress=tell)
    assert [tuple(of.shape) for of in parts] == [tuple(of.shape) for of in whole] == [(40, 3), (40, 3), (1, 40, 3)]
    torch.testing.assert_close(parts.tilt, whole.tilt, rtol=2e-3, atol=2e-2)
    assert seen == [(i, 18) for i in range(1, 19)]


def test_data_without_outliers_are_refused():
    hierarchy = make_hierarchy()
    with pytest.raises(JebmError, match=r"'anomaly' needs an out-of-distribution set"):
        measure(hierarchy, GaussianPrior(hierarchy), make_data(ood=()))


def test_snapshots_of_a_prior_share_the_draws_of_their_hierarchy(monkeypatch):
    """The hierarchy's images are decoded once, and each prior has the scores that it has alone."""
    hierarchy, decoded = make_hierarchy(), []
    energy, gaussian = make_energy(hierarchy), GaussianPrior(hierarchy)
    alone = measure(hierarchy, energy)[0]
    decode = PerceptronHierarchy.decode
    monkeypatch.setattr(
        PerceptronHierarchy, "decode", lambda self, top: decoded.append(len(top.z[0])) or decode(self, top)
    )
    models = ((100, make_hierarchy(), gaussian), (200, make_hierarchy(), energy))
    values, _, _ = measure(hierarchy, energy, snapshots=lambda: models)
    assert sum(decoded) == 4 * (60 + 40 + 50)
    assert values["auprc high elbo+f 200"] == alone["auprc high elbo+f"]
    assert values["auprc high elbo+f 100"] == values["auprc high elbo 200"]


def test_gain_over_the_bound_has_its_paired_interval():
    hierarchy = make_hierarchy(spread=-3.0)
    values, _, record = measure(hierarchy, make_energy(hierarchy))
    gain = values["auprc high elbo+f"] - values["auprc high elbo"]
    assert values["auprc_over_elbo high elbo+f"] == pytest.approx(gain, abs=1e-12)
    low, high = intervals(record.values)["auprc_over_elbo high elbo+f"]
    assert low - 0.05 <= gain <= high + 0.05
    same = measure(hierarchy, GaussianPrior(hierarchy))[2]
    assert intervals(same.values)["auprc_over_elbo high elbo+f"] == (0.0, 0.0)
