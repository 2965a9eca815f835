"""Selection of the final weights on the validation split."""

import math
import os
import signal

import pytest
import torch
from bimodal import bimodal_prior, exact_log_z
from oracles import LinearHierarchy, joint_prior

from jebm.config.training import Selection, TrainPrior
from jebm.data.batches import Pixels
from jebm.errors import DivergedError, InterruptedRunError
from jebm.models.backbones.base import flatten
from jebm.runtime.random import make_rng
from jebm.training import ebm
from jebm.training.run import TrainingRun
from jebm.training.selection import ValidationGain
from jebm.training.state import StateFile

DATA = {name: torch.randn(60, 1, 1, 4, generator=make_rng(name)) * 1.5 for name in ("train", "validation")}


def settings(**changes):
    block = {"name": "importance", "pool": 200, "share": 1.0, "min_effective": 0.0} | changes.pop("estimator", {})
    return TrainPrior(
        **{
            "steps": 60,
            "batch_size": 30,
            "learning_rate": 0.05,
            "schedule": "constant",
            "log_interval": 20,
            "estimator": block,
            "select": {"every": 10, "proposals": 500},
        }
        | changes
    )


def fit(folder, **changes):
    prior = joint_prior(LinearHierarchy((3, 2)), hidden=8, depth=1).requires_grad_(True)
    run = TrainingRun("toy", StateFile(folder, {}), make_rng("fit"))
    return prior, ebm.fit(prior, DATA, settings(**changes), run)


def test_the_gain_is_the_mean_tilt_of_posterior_draws_less_log_z():
    prior = bimodal_prior()
    pixels = torch.randn(50, 1, 1, 4, generator=make_rng("pixels"))
    gain = ValidationGain(prior, pixels, Selection(draws=3, proposals=40_000), make_rng("gain"))
    rng = make_rng("gain")
    with torch.no_grad():
        positive = torch.cat([flatten(prior.hierarchy.infer(pixels, rng).eps) for _ in range(3)])
        exact = float(prior.tilt(positive).mean()) - exact_log_z(prior)
    assert float(gain()) == pytest.approx(exact, abs=0.05)


def test_a_base_counts_in_the_gain():
    prior = bimodal_prior()
    prior.base, prior.own_proposal = prior.own_proposal, None
    pixels = torch.randn(50, 1, 1, 4, generator=make_rng("pixels"))
    gain = ValidationGain(prior, pixels, Selection(draws=3, proposals=40_000), make_rng("gain"))
    rng = make_rng("gain")
    with torch.no_grad():
        positive = torch.cat([flatten(prior.hierarchy.infer(pixels, rng).eps) for _ in range(3)])
        exact = float(prior.tilt(positive).mean()) - exact_log_z(prior)
    assert float(gain()) == pytest.approx(exact, abs=0.05)


def test_the_weights_with_the_highest_gain_are_the_final_ones(tmp_path):
    prior, (history, facts, _) = fit(tmp_path)
    gains = {row["step"]: float(row["validation_gain"]) for row in history if "validation_gain" in row}
    assert list(gains) == [10, 20, 30, 40, 50, 60]
    best = max(gains, key=gains.get)
    assert facts["selected_step"] == best
    assert facts["validation_gain"] == gains[best]
    # Stopping at that step without selection gives the same weights, since the schedule is constant.
    other, _ = fit(tmp_path / "other", steps=best, select=None)
    assert all(torch.equal(a, b) for a, b in zip(prior.parameters(), other.parameters(), strict=True))
    assert best < 60, "this run must overfit, otherwise it does not test the choice"


def test_the_average_of_the_weights_is_what_is_compared_and_chosen(tmp_path):
    averaged, (_, facts, _) = fit(tmp_path / "a", ema=0.9)
    stopped, _ = fit(tmp_path / "b", ema=0.9, steps=facts["selected_step"], select=None)
    assert all(torch.equal(a, b) for a, b in zip(averaged.parameters(), stopped.parameters(), strict=True))


def test_selection_does_not_change_the_steps_of_training(tmp_path):
    _, (with_selection, _, _) = fit(tmp_path / "a", ema=0.9)
    _, (without, _, _) = fit(tmp_path / "b", ema=0.9, select=None)
    losses = {row["step"]: row["loss"] for row in with_selection}
    assert all(losses[row["step"]] == row["loss"] for row in without)


def test_an_interrupted_run_chooses_the_same_weights(tmp_path, monkeypatch):
    whole, (_, facts, _) = fit(tmp_path / "whole", ema=0.9)
    infer, calls = LinearHierarchy.infer, []

    def stopping(self, x, rng):
        calls.append(1)
        if len(calls) == 40:
            os.kill(os.getpid(), signal.SIGTERM)
        return infer(self, x, rng)

    monkeypatch.setattr(LinearHierarchy, "infer", stopping)
    with pytest.raises(InterruptedRunError):
        fit(tmp_path / "parts", ema=0.9)
    resumed, (_, again, _) = fit(tmp_path / "parts", ema=0.9)
    assert {**facts, "seconds": 0} == {**again, "seconds": 0}
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_too_few_effective_samples_stop_training_with_the_last_good_weights(tmp_path):
    with pytest.raises(DivergedError, match=r"effective_samples is .* at step"):
        fit(tmp_path / "stopped", estimator={"min_effective": 150.0}, learning_rate=0.3)
    _, (history, facts, _) = fit(
        tmp_path / "allowed", estimator={"min_effective": 150.0}, learning_rate=0.3, allow_divergence=True, select=None
    )
    assert 1 < facts["diverged_at"] <= 60
    assert all(math.isfinite(value) for row in history for value in row.values())


def test_pixels_may_be_converted_batch_by_batch():
    prior = bimodal_prior()
    images = (torch.rand(30, 1, 1, 4, generator=make_rng("uint8")) * 255).to(torch.uint8)
    gain = ValidationGain(prior, Pixels(images, 256, "cpu"), Selection(draws=1, proposals=100), make_rng("g"))
    assert math.isfinite(float(gain()))
