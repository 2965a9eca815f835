"""KL and energy gap by group: against sums by hand and a closed form, in batches or at once."""

import pytest
import torch
from measured import name_of
from oracles import SIGMAS, TiltPrior, mild_prior, resampled_terms, spec

from jebm.config.components import build
from jebm.evaluations.base import Subject
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import flatten
from jebm.models.priors.gaussian import GaussianPrior
from jebm.runtime.random import make_rng

KERNEL = {"name": "pcnl", "step_size": 0.7, "adjusted": True}


def measure(subject: Subject, **settings):
    block = {"name": "energy-gaps", "kernel": KERNEL, "steps": 40, "batch_size": 25, "count": 1000} | settings
    record = MetricRecord(1)
    build("evaluation", spec("evaluation", **block)).evaluate(subject, record)
    return {name_of(row): (row["value"], row["n"]) for row in record.values}


def test_kl_is_the_mean_over_the_images(subject):
    values = measure(subject)
    rng, kl = make_rng("posterior"), []
    for x in subject.pixels("test").split(25):
        kl.append(subject.hierarchy.infer(x, rng).kl)
    mean = torch.cat(kl).mean(0)
    assert values["kl z1"] == (pytest.approx(float(mean[0]), rel=1e-5), 60)
    assert values["kl_total"][0] == pytest.approx(float(mean.sum()), rel=1e-5)


def test_gap_of_each_term_is_the_posterior_s_mean_less_the_density_s(subject):
    """Where chains of 40 steps end is compared with importance-resampled draws of the density itself."""
    values = measure(subject)
    exact, error = resampled_terms(subject.prior, 20_000, "groups")
    rng = make_rng("posterior")
    tops = [subject.hierarchy.infer(x, rng).top for x in subject.pixels("test").split(25)]
    positive = torch.cat([subject.prior.energy.terms(top) for top in tops]).mean(0)
    spread = error * (20_000 / 60) ** 0.5  # of the mean over 60 chains
    for i in range(2):
        assert abs(values[f"energy_gap z{i + 1}"][0] - float(positive[i] - exact[i])) < SIGMAS * float(spread[i])
    total = values["energy_gap z1"][0] + values["energy_gap z2"][0]
    assert values["energy_gap_total"][0] == pytest.approx(total, abs=1e-5)


def test_count_takes_the_first_images_and_repeats_to_the_bit(subject):
    few = measure(subject, count=10)
    assert few["kl z1"][1] == few["energy_gap z1"][1] == 10
    assert few == measure(subject, count=10)


def test_prior_without_energies_has_kls_alone(subject):
    for prior in (GaussianPrior(subject.hierarchy), TiltPrior(lambda x: x[:, 0])):
        subject.prior = prior
        assert set(measure(subject)) == {"kl z1", "kl z2", "kl_total"}


def test_latents_of_the_posterior_are_those_of_its_noise():
    """What the gap's positive side rests on: the pass of the draw is the pass of its ε."""
    hierarchy, _ = mild_prior()
    draw = hierarchy.infer(torch.rand(5, 1, 2, 2, generator=make_rng("x")), make_rng("draw"))
    again = hierarchy.top_down_flat(flatten(draw.eps))
    for ours, theirs in zip(draw.top.z, again.z, strict=True):
        torch.testing.assert_close(ours, theirs)
