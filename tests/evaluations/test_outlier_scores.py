"""The detection evaluation: scores by hand where q has no spread, gains that are there, and gains that are not."""

import numpy as np
import pytest
import torch
from measured import by_name, intervals
from outliers import SHAPE, Along, make_data, make_energy, make_hierarchy

from jebm.errors import JebmError
from jebm.evaluations.base import Subject
from jebm.evaluations.detection import Detection
from jebm.features.identity import Identity
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import flatten
from jebm.models.priors.gaussian import GaussianPrior
from jebm.runtime.random import make_rng

SCORES = {"elbo", "elbo+f", "f", "llr>1", "kl_1", "kl_2", "reconstruction", "mahalanobis", "isolation-forest"}


def measure(hierarchy, prior, data=None, **settings):
    data = data or make_data()
    subject = Subject(
        data, hierarchy, prior, Identity(SHAPE, 2), lambda purpose: make_rng("detection", purpose), "cpu", "test"
    )
    record = MetricRecord(1)
    arrays = Detection(**{"draws": 4, "resamples": 60, "trees": 10} | settings).evaluate(subject, record)
    return by_name(record.values), arrays, record


def test_scores_by_hand_where_q_is_a_point():
    """With log s = −9 all draws agree to e⁻⁹, and so f is the sum of its terms and every score a plain formula."""
    hierarchy = make_hierarchy(spread=-9.0)
    prior, data = make_energy(hierarchy), make_data()
    _, arrays, _ = measure(hierarchy, prior, data)
    posterior = hierarchy.infer(data.pixels("ood/high"), make_rng("another stream"))
    terms = prior.energy.terms(posterior.top)

    def check(score, expected):
        torch.testing.assert_close(arrays[f"score/high/{score}"], expected.double(), rtol=2e-3, atol=2e-2)

    error = (hierarchy.decode(posterior.top).mean - data.pixels("ood/high")).flatten(1).square().sum(1)
    check("reconstruction", error)
    check("f_1", -terms[:, 0])
    check("f_2", -terms[:, 1])
    check("f", -prior.tilt(flatten(posterior.eps)))
    for layer, dims in enumerate((3, 2)):
        mean_square = posterior.eps[layer].square().sum(1)
        check(f"kl_{layer + 1}", 0.5 * (mean_square + dims * (np.exp(-18) - 1)) + 9 * dims)
    difference = arrays["score/high/elbo+f"] - arrays["score/high/elbo"]
    torch.testing.assert_close(difference, arrays["score/high/f"], rtol=0, atol=1e-4)


def test_every_score_is_measured_on_every_set_with_its_interval():
    values, arrays, record = measure(make_hierarchy(), make_energy(make_hierarchy()))
    scores = SCORES | {"f_1", "f_2"}
    for measure_ in ("auroc", "auprc"):
        expected = {f"{measure_} {s} {k}" for s in ("high", "same") for k in scores}
        expected |= {f"{measure_}_gain {s}" for s in ("high", "same")}
        assert {name for name in values if name.startswith(measure_)} == expected
        assert {name for name in intervals(record.values) if name.startswith(measure_)} == expected
    assert {f"score/{name}/{score}" for name in ("test", "high", "same") for score in scores} == set(arrays)
    assert {value["n"] for value in record.values if value["set"] == "high"} == {100}
    assert len(record.protocols) == 1


def test_gain_is_the_difference_of_the_two_scores():
    values, _, record = measure(make_hierarchy(), make_energy(make_hierarchy()))
    ends = intervals(record.values)
    for metric in ("auroc", "auprc"):
        for name in ("high", "same"):
            gain = values[f"{metric} {name} elbo+f"] - values[f"{metric} {name} elbo"]
            assert values[f"{metric}_gain {name}"] == pytest.approx(gain, abs=1e-12)
            low, high = ends[f"{metric}_gain {name}"]
            assert low <= high


def test_gaussian_prior_gains_nothing_and_has_no_terms():
    hierarchy = make_hierarchy()
    values, arrays, _ = measure(hierarchy, GaussianPrior(hierarchy))
    assert all(value == 0 for name, value in values.items() if "_gain" in name)
    assert {name.split("/")[2] for name in arrays} == SCORES


def test_outliers_that_are_none_are_not_found_and_bright_ones_are():
    """Five deviations of an AUROC between two equal sets of 60 and 50: √(111 / (12 · 60 · 50)) each."""
    values, _, _ = measure(make_hierarchy(), GaussianPrior(make_hierarchy()))
    for score in ("mahalanobis", "isolation-forest", "reconstruction"):
        assert abs(values[f"auroc same {score}"] - 0.5) < 5 * (111 / (12 * 60 * 50)) ** 0.5
    assert values["auroc high mahalanobis"] > 0.95
    assert values["auroc high isolation-forest"] > 0.9


@pytest.mark.parametrize("sign", [1, -1])
def test_energy_that_outweighs_the_bound_gains_or_loses_by_its_sign(sign):
    """A steep energy towards the dark images, or towards the bright ones, which are the outliers."""
    hierarchy = make_hierarchy(spread=-3.0)
    prior, data, rng = make_energy(hierarchy), make_data(), make_rng("which way")
    bright, dark = (hierarchy.infer(data.pixels(s), rng).top.z[0].mean(0) for s in ("ood/high", "test"))
    prior.energy = Along(1e4 * sign * (dark - bright))
    values, _, record = measure(hierarchy, prior)
    assert sign * (values["auroc high f"] - 0.5) > 0.2
    assert sign * values["auroc_gain high"] > 0.1
    assert (intervals(record.values)["auroc_gain high"][0] > 0) == (sign > 0)


def test_two_runs_agree_to_the_bit():
    first, second = (measure(make_hierarchy(), make_energy(make_hierarchy()))[0] for _ in range(2))
    assert first == second


def test_data_without_outliers_are_refused():
    hierarchy = make_hierarchy()
    with pytest.raises(JebmError, match="out-of-distribution set"):
        measure(hierarchy, GaussianPrior(hierarchy), make_data(ood=()))
