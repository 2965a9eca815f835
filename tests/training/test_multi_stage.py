"""A product of noise-contrastive stages: fixed point, draws of the stages before, and what each stage adds."""

import math
import os
import signal

import pytest
import torch
from latent_targets import (
    Known,
    Plain,
    divergence,
    fitted,
    noisy_ratio,
    share_of_first_mode,
    two_modes_log_prob,
)
from oracles import SIGMAS, spec

from jebm.errors import InterruptedRunError
from jebm.models.priors.base import build_prior
from jebm.runtime.random import make_rng
from jebm.training import multi_stage, ncp
from jebm.training.multi_stage import StageLoss

ENERGY = {"name": "concatenated", "hidden": 16, "depth": 1}


def built(target="two modes", energy=ENERGY, **block):
    return build_prior(spec("prior", name="multi-stage", energy=energy, **block), Plain(target))


def known_first_stage(offset=0.0):
    """Stage 1 is the log ratio of the target, plus a slope; stage 2 starts at 0."""
    prior = built(stages=2)
    ratio = noisy_ratio("two modes", 1.0)
    prior.energy.stages[0] = Known(lambda eps: ratio(eps) + offset * eps[:, 0]).requires_grad_(False)
    prior.energy.stages[1] = Known(lambda eps: 0 * eps[:, 0])
    return prior


def second_stage_gradients(prior, batches=25, count=400):
    loss = StageLoss(prior, 2, torch.zeros(count, 1, 1, 1), make_rng("loss"))
    slope = prior.energy.stages[1].nets["slope"].weight
    found = [torch.autograd.grad(loss(0, torch.arange(count))[0], slope)[0][0] for _ in range(batches + 5)]
    return torch.stack(found[5:]), loss


def test_tilt_is_the_sum_of_the_stages():
    prior = built(stages=3)
    prior.initialise(make_rng("start"))
    eps = torch.randn(7, 2, generator=make_rng("eps"))
    torch.testing.assert_close(prior.tilt(eps), torch.zeros(7))
    rng = make_rng("weights")
    for parameter in prior.parameters():
        parameter.data.normal_(generator=rng)
    single = [energy(prior.hierarchy.top_down_flat(eps)) for energy in prior.energy.stages]
    torch.testing.assert_close(prior.tilt(eps), sum(single))
    torch.testing.assert_close(prior.first(2).tilt(eps), single[0] + single[1])
    assert list(prior.energy.nets) == ["1-all", "2-all", "3-all"]
    assert len(prior.state_dict()) == len(list(prior.parameters()))  # nothing is stored twice


def test_a_stage_after_the_exact_ratio_has_nothing_to_learn():
    """Its classifier sees the same density twice: no slope within five standard errors; otherwise there is one."""
    gradients, loss = second_stage_gradients(known_first_stage())
    error = gradients.std(0) / math.sqrt(len(gradients))
    assert (gradients.mean(0).abs() < SIGMAS * error).all()
    value, _ = loss(0, torch.arange(400))
    assert float(value.detach()) == pytest.approx(2 * math.log(2))
    wrong, _ = second_stage_gradients(known_first_stage(offset=0.6))
    assert wrong.mean(0)[0] > SIGMAS * error[0]  # a step against the gradient takes the slope back


def test_walkers_have_the_density_of_the_stages_before():
    _, loss = second_stage_gradients(known_first_stage(), batches=10)
    assert share_of_first_mode(loss.walkers) == pytest.approx(0.7, abs=5 * math.sqrt(0.21 / 256))
    assert loss.state_dict()["walkers"].shape == (256, 2)


def test_one_stage_is_the_noise_contrastive_prior(tmp_path):
    """The same loss at the same weights and draws."""
    values = {"name": "ncp", "energy": ENERGY}
    other, prior = build_prior(spec("prior", **values), Plain("two modes")), built(stages=1)
    for each in (other, prior):
        each.initialise(make_rng("start"))
    pixels, batch = torch.zeros(50, 1, 1, 1), torch.arange(50)
    expected, _ = ncp.LogisticLoss(other, pixels, None, make_rng("loss"))(0, batch)
    found, _ = StageLoss(prior, 1, pixels, make_rng("loss"))(0, batch)
    assert torch.equal(found, expected)


def test_stages_bring_the_density_nearer_to_the_data(tmp_path):
    """Stages that are each too short to learn the ratio: three of them are nearer than one by a fifth or more."""
    prior = built(stages=3)
    values = {"steps": 25, "batch_size": 256, "learning_rate": 0.03}
    result = fitted(multi_stage.fit, prior, tmp_path, **values)
    one, three = (divergence(two_modes_log_prob, prior.first(n)) for n in (1, 3))
    assert three < 0.8 * one
    steps = [row["step"] for row in result.history]
    assert steps == sorted(steps)
    assert steps[-1] == result.facts["steps"] == 75
    assert {row["stage"] for row in result.history} == {1, 2, 3}


@pytest.mark.parametrize("stop_at", [4, 16])
def test_interrupted_fit_goes_on_to_the_same_bits(stop_at, tmp_path):
    """Within the first stage of ten steps, and within the second."""

    def run(folder, stop_at=None):
        prior, calls = built(stages=2, base={"name": "mixture", "components": [1], "draws": 1}), iter(range(10**6))
        draw = prior.hierarchy.draw

        def counted(count, rng):
            if count == 32 and next(calls) == stop_at:  # a batch of training
                os.kill(os.getpid(), signal.SIGTERM)
            return draw(count, rng)

        prior.hierarchy.draw = counted
        fitted(multi_stage.fit, prior, folder, steps=10, batch_size=32)
        return torch.cat([p.flatten() for p in prior.parameters()])

    whole = run(tmp_path / "a")
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "b", stop_at)
    assert torch.equal(run(tmp_path / "b"), whole)
