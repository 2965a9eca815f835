"""Chains on their way: they start at the Gaussian prior, and the images and tilts are those of the states."""

import pytest
import torch
from oracles import SIGMAS, spec

from jebm.data.dataset import quantise
from jebm.evaluations.trajectories import Trajectories
from jebm.metrics.records import MetricRecord

STEPS = [0, 2, 40]


@pytest.fixture
def arrays(subject):
    kernel = spec("kernel", name="pcnl", step_size=0.5, adjusted=True)
    return Trajectories(kernel=kernel, steps=STEPS, count=500, shown=3).evaluate(subject, MetricRecord(1))


def test_first_states_are_draws_of_the_gaussian_prior(arrays, subject):
    eps = torch.randn(500, subject.hierarchy.dimensions, generator=subject.rng("chains"))
    torch.testing.assert_close(arrays["tilt/chains"][0], subject.prior.tilt(eps))
    means = subject.hierarchy.decode(subject.hierarchy.top_down_flat(eps[:3])).mean
    assert torch.equal(arrays["images"][0], quantise(means, 17))


def test_a_state_and_an_image_are_kept_for_each_number_of_steps(arrays, subject):
    assert arrays["steps"].tolist() == STEPS
    assert arrays["images"].shape == (3, 3, 1, 2, 2)
    assert arrays["tilt/chains"].shape == (3, 500)
    assert arrays["tilt/posterior"].shape == (60,)  # one for each test image
    assert not torch.equal(arrays["tilt/chains"][0], arrays["tilt/chains"][1])


def test_chains_of_an_adjusted_kernel_end_at_the_density(arrays, subject):
    """The mean tilt there is known from draws of the proposal with importance weights."""
    eps = torch.randn(200_000, subject.hierarchy.dimensions, generator=subject.rng("check"))
    tilt = subject.prior.tilt(eps).double()
    weights = torch.softmax(tilt, 0)
    expected = float((weights * tilt).sum())
    error = float(arrays["tilt/chains"][-1].std()) / 500**0.5
    assert float(arrays["tilt/chains"][-1].mean()) == pytest.approx(expected, abs=SIGMAS * error)
    assert abs(float(arrays["tilt/chains"][0].mean()) - expected) > SIGMAS * error
