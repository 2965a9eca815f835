"""Steps that are not finite, where they may be skipped: nothing of them remains, and too many stop the run."""

import math
import signal

import pytest
import torch
from losses import FunctionLoss
from torch import nn

from jebm.config.training import Optimisation
from jebm.errors import DivergedError, InterruptedRunError
from jebm.runtime.random import make_rng
from jebm.training.finite import Divergence
from jebm.training.loop import Trainer
from jebm.training.run import TrainingRun
from jebm.training.skipping import SkipPolicy
from jebm.training.state import StateFile

DATA = torch.randn(40, 3, generator=make_rng("skip data"))


class Counter:
    """Something that a loss keeps from step to step: how often it was called."""

    def __init__(self):
        self.calls = 0

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


class Job:
    """A run of a tiny network with batch norm; the batches of the steps in ``spoilt`` are multiplied by NaN."""

    def __init__(self, folder, spoilt=(), factors=None, stop_at=None, limit=math.inf, **settings):
        rng = make_rng("skip run")
        self.module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.normal_(generator=rng)
        self.counter, self.before = Counter(), {}

        def loss(step, batch):
            self.before[step] = self.tensors()
            self.counter.calls += 1
            if step == stop_at:
                signal.raise_signal(signal.SIGTERM)
            x = DATA[batch] + 0.1 * torch.randn(len(batch), 3, generator=rng)
            value = self.module(x * math.nan if step in spoilt else x).square().mean()
            return value * (factors or {}).get(step, 1.0), {"twice": 2 * value.detach()}

        block = {"steps": 12, "batch_size": 8, "learning_rate": 0.05, "log_interval": 3, "skip_non_finite": 3}
        self.state = StateFile(folder, {})
        self.trainer = Trainer(
            self.module,
            FunctionLoss(len(DATA), loss, self.counter),
            Optimisation(**block | {"max_skipped_fraction": 1.0} | settings),
            TrainingRun("trial", self.state, rng),
            divergence=Divergence(limit=limit),
        )

    def tensors(self):
        return {name: tensor.clone() for name, tensor in self.module.state_dict().items()}

    def run(self):
        self.fitted = self.trainer.train()
        return self


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_nothing_of_a_skipped_step_remains(tmp_path):
    """Not in the weights, and not in the batch norm's statistics, which NaN would spoil for good."""
    job = Job(tmp_path, spoilt=(4, 5), ema=0.9).run()
    assert same(job.before[4], job.before[5])
    assert same(job.before[5], job.before[6])
    assert not same(job.before[6], job.before[7])
    assert all(torch.isfinite(tensor).all() for tensor in job.tensors().values())
    assert job.counter.calls == 10  # what the loss keeps is put back with the rest


def test_skipped_steps_are_counted_in_history_progress_and_record(tmp_path, capsys):
    job = Job(tmp_path, spoilt=(4, 5, 9)).run()
    rows = {row["step"]: row for row in job.trainer.state.history}
    assert {step: row["skipped"] for step, row in rows.items()} == {3: 0, 6: 2, 9: 2, 12: 3}
    assert "loss" not in rows[6]  # this step was skipped: it has no values
    assert rows[9]["loss"] == pytest.approx(rows[9]["twice"] / 2)
    assert job.fitted.facts["skipped"] == 3
    assert "skipped=3" in job.trainer._describe()
    printed = capsys.readouterr().err
    assert "trial: step 5 skipped: loss is nan, twice is nan, gradient_norm is nan (1 so far)" in printed


def test_without_the_setting_nothing_is_counted_and_the_first_one_stops(tmp_path):
    job = Job(tmp_path / "whole", skip_non_finite=0).run()
    assert "skipped" not in job.trainer.state.history[-1]
    assert "skipped" not in job.fitted.facts
    with pytest.raises(DivergedError, match=r"at step 5 of 12; stopped before the optimiser stepped\. Last good"):
        Job(tmp_path / "cut", spoilt=(4,), skip_non_finite=0).run()


def test_run_that_stopped_goes_on_with_the_statistics_of_before(tmp_path):
    undisturbed = Job(tmp_path / "a", skip_non_finite=0).run()
    with pytest.raises(DivergedError):
        Job(tmp_path / "b", spoilt=(4,), skip_non_finite=0).run()
    mended = Job(tmp_path / "b", skip_non_finite=0).run()
    assert list(mended.before) == list(range(4, 12))
    assert same(mended.tensors(), undisturbed.tensors())
    assert mended.counter.calls == undisturbed.counter.calls


def test_too_many_in_a_row_stop_with_the_last_good_state(tmp_path):
    job = Job(tmp_path, spoilt=(4, 5, 6, 7))
    with pytest.raises(DivergedError, match=r"at step 8 of 12; .* 3 steps in a row were skipped before it"):
        job.run()
    assert same(job.tensors(), job.before[4])
    assert job.state.path.exists()
    Job(tmp_path / "scattered", spoilt=(2, 3, 4, 6, 7, 8)).run()


def test_too_large_a_share_stops(tmp_path):
    with pytest.raises(DivergedError, match=r"at step 10 of 12; .* 2 of the 100 steps before it .* no more than 2%"):
        Job(tmp_path, spoilt=(2, 5, 9), max_skipped_fraction=0.02).run()


def test_old_skips_leave_the_window():
    policy = SkipPolicy(
        Optimisation(steps=1000, batch_size=1, learning_rate=1.0, skip_non_finite=1, max_skipped_fraction=0.01)
    )
    for step in (10, 110, 210):
        assert not policy.why_not(step)
        policy.skip(step)
        policy.reset()
    assert "1 of the 100 steps" in policy.why_not(309)
    assert not policy.why_not(310)
    assert policy.total == 3


def test_gradient_that_is_too_large_is_skipped_where_a_limit_is_set(tmp_path):
    free = Job(tmp_path / "free", factors={4: 1e4}).run()
    assert free.trainer.skips.total == 0
    limited = Job(tmp_path / "limited", factors={4: 1e4}, skip_gradient_norm=1e3).run()
    assert limited.trainer.skips.total == 1
    assert same(limited.before[4], limited.before[5])


def test_loss_beyond_the_limit_is_a_divergence_and_never_skipped(tmp_path):
    job = Job(tmp_path, factors={4: 1e9}, limit=1e6)
    with pytest.raises(
        DivergedError, match=r"loss is .*e\+\d+ at step 5 of 12; stopped before the optimiser stepped. "
    ):
        job.run()


@pytest.mark.parametrize("step", [4, 5, 8])
def test_run_interrupted_between_skips_goes_on_to_the_same_bits(tmp_path, step):
    """Stopping in the middle of a row must not give the row a fresh start."""
    settings = {"spoilt": (3, 4, 5, 9), "ema": 0.8, "optimizer": "adamax"}
    undisturbed = Job(tmp_path / "a", **settings).run()
    with pytest.raises(InterruptedRunError):
        Job(tmp_path / "b", stop_at=step, **settings).run()
    resumed = Job(tmp_path / "b", **settings).run()
    assert same(resumed.tensors(), undisturbed.tensors())
    assert resumed.trainer.state.history == undisturbed.trainer.state.history
    assert resumed.trainer.skips.state_dict() == undisturbed.trainer.skips.state_dict()
    assert resumed.counter.calls == undisturbed.counter.calls


def test_row_that_is_interrupted_still_ends_the_run(tmp_path):
    with pytest.raises(InterruptedRunError):
        Job(tmp_path, spoilt=(4, 5, 6, 7), stop_at=5).run()
    with pytest.raises(DivergedError, match="at step 8 of 12"):
        Job(tmp_path, spoilt=(4, 5, 6, 7)).run()


def test_average_takes_the_running_statistics_along(tmp_path):
    raw, averaged = Job(tmp_path / "raw").run(), Job(tmp_path / "ema", ema=0.7).run()
    path = [raw.before[step] for step in range(12)] + [raw.tensors()]
    for name in ("0.weight", "1.running_mean", "1.running_var"):
        expected = path[0][name]
        for tensors in path[1:]:
            expected = 0.7 * expected + 0.3 * tensors[name]
        torch.testing.assert_close(averaged.tensors()[name], expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(averaged.tensors()["1.num_batches_tracked"], torch.tensor(12))
