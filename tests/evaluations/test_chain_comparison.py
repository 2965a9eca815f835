"""The evaluation of chains on a prior of two dimensions: what is recorded, what is refused, what repeats."""

import pytest
import torch
from measured import by_name
from oracles import mild_prior, spec

from jebm.config.components import build, build_labelled
from jebm.errors import DivergedError
from jebm.evaluations.chain_comparison import LIMIT, has_left, run, trace
from jebm.metrics.records import MetricRecord
from jebm.runtime.random import make_rng
from jebm.sampling.spaces import Latent

ADJUSTED = {"kernel": {"name": "pcnl", "step_size": 0.7, "adjusted": True}}
UNSTABLE = {"kernel": {"name": "langevin", "step_size": 3.0, "adjusted": False}, "space": "z"}


@pytest.fixture
def measure(subject):
    """Evaluates setups on the subject; returns values by metric, the record and the arrays."""

    def evaluate(chains, **settings):
        block = {"name": "chain-comparison", "count": 100, "steps": [0, 3, 40], "long_chains": 8, "long_steps": 200}
        evaluation = build("evaluation", spec("evaluation", **block | {"chains": chains} | settings))
        record = MetricRecord(1)
        arrays = evaluation.evaluate(subject, record)
        return by_name(record.values), record, arrays

    return evaluate


def test_values_of_a_chain_that_mixes(measure):
    values, record, arrays = measure({"good": ADJUSTED}, pool=2000)
    assert {f"fd_steps good {k}" for k in (0, 3, 40)} <= set(values)
    assert values["left good"] == 0
    assert "left_at good" not in values
    assert 0.5 < values["acceptance good"] < 1
    assert values["r_hat good"] >= values["r_hat_f good"]
    assert values["r_hat good"] < 1.2
    assert 1 < values["autocorrelation_time good"] < 30
    assert values["ess_per_step good"] == pytest.approx(1 / values["autocorrelation_time good"])
    assert 100 < values["fd_density_ess"] <= 2000
    assert list(by_name(record.timings)) == ["ess_per_second good"]
    assert arrays["good/autocorrelation"].shape == (100, 2)
    assert arrays["good/r_hat"][-1, 0] == 200


def test_values_repeat_to_the_bit_and_a_setup_does_not_depend_on_its_neighbours(measure):
    first, _, _ = measure({"good": ADJUSTED})
    second, _, _ = measure({"other": UNSTABLE | {"allow_divergence": True}, "good": ADJUSTED})
    assert {key: second[key] for key in first} == first


def test_chains_that_leave_fail_unless_they_may(measure):
    with pytest.raises(DivergedError, match=r"'bad' diverged: 100.0% of 100 chains left.*step_size.*allow_divergence"):
        measure({"bad": UNSTABLE})
    values, record, arrays = measure({"bad": UNSTABLE | {"allow_divergence": True}})
    assert values["left bad"] == 1
    assert 1 <= values["left_at bad"] < 40
    assert "fd_steps bad 0" in values
    assert "fd_steps bad 40" not in values
    assert "fd_long bad" not in values
    assert not arrays
    assert not record.timings


def test_step_at_which_chains_left_is_that_of_the_states():
    hierarchy, prior = mild_prior()
    setup = build_labelled(spec("evaluation", name="chain-comparison", chains={"bad": UNSTABLE}).chains)["bad"]
    ran = run(setup, Latent(hierarchy, prior), 50, range(31), make_rng("left"))
    gone = torch.stack([has_left(ran.kept[k]) for k in range(31)])
    expected = torch.where(gone.any(0), gone.int().argmax(0), 0)
    assert torch.equal(ran.left_at, expected)
    assert ran.first_left == expected[expected > 0].min()
    assert ran.whole_until(ran.first_left - 1)
    assert not ran.whole_until(ran.first_left)


def test_left_means_not_finite_or_too_large():
    x = torch.tensor([[0.0, LIMIT], [0.0, -2 * LIMIT], [torch.nan, 0.0], [torch.inf, 0.0]])
    assert has_left(x).tolist() == [False, True, True, True]


def test_trace_is_f_and_z():
    hierarchy, prior = mild_prior()
    x = torch.randn(6, 2, generator=make_rng("trace"))
    rows = trace(Latent(hierarchy, prior), {1: x[:3], 2: x[3:]})
    assert rows.shape == (2, 3, 3)
    torch.testing.assert_close(rows[..., 1:].flatten(0, 1), x)
    torch.testing.assert_close(rows[..., 0].flatten(), Latent(hierarchy, prior).tilt(x))
