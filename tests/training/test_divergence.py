"""Training that diverges: it fails, or publishes what it had where the variant is there to show it."""

import pytest
import torch
from oracles import mild_prior

from jebm.config.training import TrainPrior
from jebm.errors import DivergedError
from jebm.runtime.random import make_rng
from jebm.training import ebm
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile


def fit(tmp_path, **settings):
    _, prior = mild_prior()
    prior.requires_grad_(True)
    estimator = {"name": "short-run", "kernel": {"name": "pcnl", "step_size": 0.3, "adjusted": True}, "steps": 2}
    block = {"steps": 30, "batch_size": 8, "learning_rate": 0.05, "ema": 0.5, "log_interval": 5, "estimator": estimator}
    pixels = {"train": torch.rand(20, 1, 2, 2, generator=make_rng("pixels"))}
    run = TrainingRun("toy", StateFile(tmp_path, {}), make_rng("diverge"))
    history, facts, _ = ebm.fit(prior, pixels, TrainPrior.model_validate(block | settings), run)
    return prior, history, facts


def test_a_gap_beyond_the_limit_is_a_divergence_though_it_is_finite(tmp_path):
    with pytest.raises(DivergedError, match=r"loss is .* at step \d+ of 30; stopped before the optimiser stepped"):
        fit(tmp_path, max_energy_gap=0.05)


def test_marked_training_publishes_the_average_of_before_and_says_when(tmp_path):
    whole, _, facts = fit(tmp_path / "whole", allow_divergence=True)
    assert "diverged_at" not in facts
    prior, history, facts = fit(tmp_path / "cut", allow_divergence=True, max_energy_gap=0.05)
    step = facts["diverged_at"]
    assert 1 < step < 30
    assert facts["steps"] == step - 1
    assert history
    weights = torch.cat([p.flatten() for p in prior.parameters()])
    assert torch.isfinite(weights).all()
    # The same run, stopped on purpose before that step: the schedule has to be the same, so it is constant here.
    one, _, cut = fit(tmp_path / "constant", allow_divergence=True, schedule="constant", max_energy_gap=0.05)
    two, _, _ = fit(tmp_path / "short", schedule="constant", steps=cut["steps"])
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), prior.parameters(), strict=True))
