"""Schedules at their corners, and the order of the data."""

import pytest
import torch

from jebm.config.training import Optimisation
from jebm.runtime.random import generator
from jebm.training.batches import EpochSampler
from jebm.training.kl_balance import by_dimension, by_scale, layer_sizes
from jebm.training.schedules import kl_weights, learning_rate


def rate(step, **settings):
    return learning_rate(step, Optimisation(**{"steps": 100, "batch_size": 1, "learning_rate": 2.0} | settings))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_warm_up_rises_from_a_first_share_to_the_full_rate(schedule):
    rates = [rate(step, warmup_steps=4, schedule=schedule) for step in range(5)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


def test_schedules_start_full_and_pass_their_middle():
    assert rate(0) == rate(0, schedule="linear") == 2.0
    assert rate(50) == pytest.approx(1.0)
    assert rate(50, schedule="linear") == pytest.approx(1.0)
    assert rate(25) == pytest.approx(2 * (0.5 + 0.5 * 0.5**0.5))
    assert rate(25, schedule="linear") == pytest.approx(1.5)


def test_schedules_end_at_the_final_fraction():
    for schedule in ("cosine", "linear"):
        assert rate(100, schedule=schedule, final_learning_rate=0.1) == pytest.approx(0.2)
        assert rate(1000, schedule=schedule, final_learning_rate=0.1) == pytest.approx(0.2)
        assert rate(99, schedule=schedule, final_learning_rate=0.1) > 0.2
    assert rate(50, schedule="linear", final_learning_rate=0.1) == pytest.approx(1.1)


def test_constant_schedule_ignores_the_final_fraction():
    assert {rate(step, schedule="constant", final_learning_rate=0.1) for step in (0, 50, 99)} == {2.0}


def test_warm_up_counts_as_part_of_the_steps():
    assert rate(60, warmup_steps=20, schedule="linear") == pytest.approx(1.0)


def test_warm_up_longer_than_the_run_never_gets_full():
    assert rate(99, warmup_steps=200) == pytest.approx(1.0)
    assert rate(199, warmup_steps=200) == 2.0


def test_kl_weights_rise_from_start_to_end_of_each_ramp():
    ramps = [[0.0, 0.25], [0.05, 0.45], [0.0, 0.0], [1.0, 1.0]]
    assert kl_weights(0, 100, ramps).tolist() == [0, 0, 1, 0]
    assert kl_weights(5, 100, ramps).tolist() == pytest.approx([0.2, 0, 1, 0])
    assert kl_weights(25, 100, ramps).tolist() == pytest.approx([1, 0.5, 1, 0])
    assert kl_weights(45, 100, ramps).tolist() == [1, 1, 1, 0]
    assert kl_weights(99, 100, ramps).tolist() == [1, 1, 1, 0]
    assert kl_weights(100, 100, ramps).tolist() == [1, 1, 1, 1]


def test_every_epoch_visits_every_index_once():
    sampler = EpochSampler(12, 4, generator("epochs"))
    epochs = [torch.cat([sampler.next() for _ in range(3)]) for _ in range(3)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(12))
    assert not torch.equal(epochs[0], epochs[1])


def test_short_end_of_an_epoch_is_dropped():
    sampler = EpochSampler(10, 4, generator("epochs"))
    for _ in range(5):
        epoch = torch.cat([sampler.next(), sampler.next()])
        assert len(set(epoch.tolist())) == 8


def test_batch_larger_than_the_data_is_all_of_it():
    sampler = EpochSampler(3, 10, generator("epochs"))
    assert [sorted(sampler.next().tolist()) for _ in range(2)] == [[0, 1, 2]] * 2


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4])
def test_order_resumes_in_the_middle_of_an_epoch(taken):
    stream = generator("epochs")
    sampler = EpochSampler(12, 4, stream)
    for _ in range(taken):
        sampler.next()
    random, state = stream.get_state(), sampler.state_dict()
    expected = [sampler.next().tolist() for _ in range(7)]
    other = generator("elsewhere")
    resumed = EpochSampler(12, 4, other)
    resumed.load_state_dict(state)
    other.set_state(random)
    assert [resumed.next().tolist() for _ in range(7)] == expected


def test_kl_balance_has_mean_one_and_is_dear_for_a_busy_layer():
    """(KL + 0.1) / dimensions, by hand: 1.1 / 2 and 0.1 / 4."""
    factors = by_dimension(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 4.0]))
    assert factors.tolist() == pytest.approx([2 * 0.55 / 0.575, 2 * 0.025 / 0.575])
    assert float(factors.mean()) == pytest.approx(1)


def test_kl_weights_never_fall_below_the_floor():
    """NVAE's warm-up: max(min((step − const) / anneal, 1), floor) with const 1e-4 and anneal 0.3 of all steps."""
    steps, ramps = 100_000, [[1e-4, 0.3001]]
    found = [float(kl_weights(step, steps, ramps, 1e-4)) for step in (0, 10, 13, 1000, 15_010, 30_010, 99_999)]
    expected = [max(min((step - 10) / 30_000, 1), 1e-4) for step in (0, 10, 13, 1000, 15_010, 30_010, 99_999)]
    assert found == pytest.approx(expected, rel=1e-5)
    assert found[:3] == pytest.approx([1e-4] * 3)


def test_sizes_of_layers_are_pixels_shared_by_the_layers_of_a_scale():
    shapes = [(3, 8, 8)] * 3 + [(3, 4, 4)] * 2 + [(3, 2, 2)]
    assert layer_sizes(shapes).tolist() == pytest.approx([64 / 3 / 4] * 3 + [2] * 2 + [1])
    assert layer_sizes([(16,), (8,)]).tolist() == [1, 1]


def test_balance_by_scale_is_that_of_the_published_code():
    """One group at the coarse scale and three at the finer one; the numbers are those that its code gave."""
    kl = torch.tensor(
        [[82.5372608, 51.4693777, 64.0446992, 5.49135397], [78.6241274, 60.252498, 52.7211697, 5.52390702]],
        dtype=torch.float64,
    )
    sizes = layer_sizes([(3, 16, 16)] * 3 + [(3, 8, 8)]).double()
    factors = by_scale(kl.abs().mean(0), sizes)
    published = [1.5941869, 1.10519854, 1.15508685, 0.145527708]
    torch.testing.assert_close(factors, torch.tensor(published, dtype=torch.float64), rtol=0, atol=1e-6)
    balanced = 0.4 * (kl * factors).sum(1)
    torch.testing.assert_close(balanced, torch.tensor([105.296014, 101.453575], dtype=torch.float64), rtol=1e-6, atol=0)
