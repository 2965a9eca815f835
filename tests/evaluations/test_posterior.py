"""Posterior accuracy where the exact posterior is known: exact, widened and shifted networks."""

import math
from types import SimpleNamespace

import pytest
import torch
from linear_gaussian import exact_posterior, linear_model, log_evidence, tilted_prior
from measured import by_name
from oracles import spec

from jebm.evaluations.posterior import PosteriorAccuracy
from jebm.metrics.records import MetricRecord
from jebm.runtime.random import generator
from jebm.sampling.posterior import posterior_target

IMAGES = torch.randn(6, 1, 1, 3, generator=generator("posterior images"))


def measured(**options):
    """Values by metric, arrays and timings, for six images on a linear hierarchy of 2 + 1 dimensions."""
    hierarchy, prior = linear_model(exact=True, **options)
    hierarchy.requires_grad_(False)
    prior.requires_grad_(False)
    subject = SimpleNamespace(
        hierarchy=hierarchy,
        prior=prior,
        pixels=lambda split: IMAGES,
        facts=lambda reference: {"reference": reference},
        stream=lambda purpose: generator("posterior test", purpose),
        progress=lambda: lambda *_: None,
    )
    evaluation = PosteriorAccuracy(
        kernel=spec("kernel", name="langevin", step_size=0.3, adjusted=True),
        images=6,
        chains=20,
        steps=80,
        shown_steps=[5, 80],
        adaptation=[50],
        reference_steps=300,
        reference_step_size=1.0,
        importance_samples=[1, 10, 2000],
    )
    record = MetricRecord(0)
    arrays = evaluation.evaluate(subject, record)
    return by_name(record.values), arrays, by_name(record.timings), prior


@pytest.fixture(scope="module")
def exact():
    return measured()


def test_exact_network_is_calibrated_and_its_bound_tight(exact):
    values = exact[0]
    for layer in ("z1", "z2"):
        assert values[f"mean_error {layer}"] < 0.08
        assert values[f"variance_ratio {layer}"] == pytest.approx(1, abs=0.06)
        assert values[f"residual_sd {layer}"] == pytest.approx(1, abs=0.03)
    for draws in (1, 10, 2000):
        assert values[f"iw_gap {draws}"] == pytest.approx(0, abs=0.02)
    assert values["importance_ess network"] == pytest.approx(1, abs=1e-3)
    assert values["importance_ess fit"] > 0.9
    assert values["log_joint_gap network"] == pytest.approx(0, abs=0.1)


def test_reference_is_the_exact_posterior(exact):
    """Mean log joint: that at the posterior's mean less half of the dimensions; R-hat says that it is trusted."""
    values, _, _, prior = exact
    mean, _ = exact_posterior(prior, IMAGES)
    peak = posterior_target(prior.hierarchy, prior, IMAGES).log_prob(mean.float()).mean()
    assert values["log_joint reference"] == pytest.approx(float(peak) - 1.5, abs=0.08)
    assert values["r_hat"] < 1.03
    assert values["converged"] == 1
    assert 0.4 < values["reference_acceptance"] < 0.99


def test_evidence_behind_the_gaps_is_exact(exact):
    """iw_gap is measured from log p(x) without log Z; with the exact network log p(x, ε) − log q(ε | x) is that."""
    _, _, _, prior = exact
    posterior = prior.hierarchy.infer(IMAGES, generator("evidence"))
    flat = torch.cat([layer.flatten(1) for layer in posterior.eps], 1)
    weight = posterior_target(prior.hierarchy, prior, IMAGES).log_prob(flat) - posterior.log_q.sum(1)
    expected = log_evidence(prior, IMAGES) + tilted_prior(prior)[2]
    torch.testing.assert_close(weight.double(), expected, rtol=0, atol=1e-4)


def test_widened_network_shows_in_variance_log_joint_and_bound():
    """w = 1.5 in 3 dimensions: variance w², log joint lower by d/2 (w² − 1), IW-1 lower by KL(q ‖ p)."""
    values, *_ = measured(widen=1.5)
    drop = 1.5 * (1.5**2 - 1)
    for layer in ("z1", "z2"):
        assert values[f"variance_ratio {layer}"] == pytest.approx(2.25, rel=0.06)
        assert values[f"residual_sd {layer}"] == pytest.approx(1 / 1.5, abs=0.03)
        assert values[f"mean_error {layer}"] < 0.1
    assert values["log_joint_gap network"] == pytest.approx(-drop, abs=0.1)
    assert values["iw_gap 1"] == pytest.approx(drop - 3 * math.log(1.5), abs=0.06)
    assert 0 < values["iw_gap 2000"] + 0.01 < values["iw_gap 10"] < values["iw_gap 1"]


def test_shifted_network_shows_in_the_means():
    values, _, _, prior = measured(shift=0.3)
    _, cov = exact_posterior(prior, IMAGES)
    error = (0.09 / cov.diagonal()).float()
    residual = (1 + error).split([2, 1])
    for layer, own, both in zip(("z1", "z2"), error.split([2, 1]), residual, strict=True):
        assert values[f"mean_error {layer}"] == pytest.approx(float(own.mean().sqrt()), rel=0.08)
        assert values[f"residual_sd {layer}"] == pytest.approx(float(both.mean().sqrt()), rel=0.04)
        assert values[f"variance_ratio {layer}"] == pytest.approx(1, abs=0.06)


def test_chains_reach_the_posterior_and_say_when(exact):
    values, arrays, timings, _ = exact
    assert arrays["steps"].tolist() == [*range(20), *range(20, 80, 5), 80]
    assert arrays["trace/cold"][0] < -1.5 < -0.5 < arrays["trace/cold"][-1]
    assert values["accuracy_reached cold"] == values["accuracy_reached warm"] == 1
    assert values["steps_to_accuracy warm"] == 0
    assert 0 < values["steps_to_accuracy cold"] < 80
    assert values["log_joint_gap cold 5"] < values["log_joint_gap cold 80"]
    assert timings["posterior_seconds cold 80"] == pytest.approx(16 * timings["posterior_seconds cold 5"])
    assert {"network", "reference"} < set(arrays)


def test_values_repeat_and_no_time_is_among_them(exact):
    again, *_ = measured()
    assert again == exact[0]
    assert not any("seconds" in name for name in again)


def test_a_chain_that_never_arrives_says_so():
    hierarchy, prior = linear_model(exact=True)
    assert hierarchy is prior.hierarchy  # the same model, a step too small to get anywhere
    subject = SimpleNamespace(
        hierarchy=hierarchy.requires_grad_(False), prior=prior.requires_grad_(False), pixels=lambda split: IMAGES,
        facts=lambda reference: {}, stream=lambda purpose: generator("slow", purpose), progress=lambda: lambda *_: None,
    )  # fmt: skip
    kernel, record = spec("kernel", name="langevin", step_size=0.001, adjusted=True), MetricRecord(0)
    PosteriorAccuracy(
        kernel=kernel, images=6, chains=20, steps=10, shown_steps=[10], adaptation=[50, 50], reference_steps=100,
        importance_samples=[1, 10],
    ).evaluate(subject, record)  # fmt: skip
    values = by_name(record.values)
    assert (values["accuracy_reached cold"], values["steps_to_accuracy cold"]) == (0, 10)
