"""The loop: what a step does, what stops it, and that nothing is lost or changed by stopping."""

import os
import signal
import time

import pytest
import torch
from losses import FunctionLoss
from torch import nn

from jebm.config.training import Optimisation
from jebm.errors import DivergedError, InterruptedRunError
from jebm.runtime.random import make_rng
from jebm.training.loop import Trainer
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile

DATA = torch.randn(23, 3, generator=make_rng("loop data"))


class Job:
    """One run of a tiny regression with noise from the run's stream; ``disturb(step)`` happens inside the loss."""

    def __init__(self, folder, disturb=lambda step: None, identity=None, checkpoint_seconds=1e9, **settings):
        rng = make_rng("loop")
        self.module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.normal_(generator=rng)
        self.seen = []

        def loss(step, batch):
            self.seen.append((step, batch.clone(), [p.detach().clone() for p in self.module.parameters()]))
            x = DATA[batch]
            noise = 0.1 * torch.randn(len(x), 1, generator=rng)
            value = (self.module(x) - x.sum(1, keepdim=True) + noise).square().mean()
            factor = disturb(step)
            scalars = {"square": value.detach() ** 2}
            if isinstance(factor, dict):
                scalars |= {key: torch.tensor(v) for key, v in factor.items()}
            return value * factor if isinstance(factor, float) else value, scalars

        self.settings = Optimisation(
            **{"steps": 12, "batch_size": 5, "learning_rate": 0.05, "log_interval": 4} | settings
        )
        self.state = StateFile(folder / "state", identity or {"parameters": "same"})
        run = TrainingRun("tiny run", self.state, rng, checkpoint_seconds)
        self.trainer = Trainer(self.module, FunctionLoss(len(DATA), loss), self.settings, run)

    def run(self):
        self.trainer.train()
        return self

    @property
    def weights(self):
        return torch.cat([p.detach().flatten() for p in self.module.parameters()])


def at(step, action):
    return lambda now: action() if now == step else None


def terminate(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


# A step --------------------------------------------------------------------------------------------------------------


def test_first_step_is_that_of_adamw(tmp_path):
    """Adam's first step is lr·sign(gradient), AdamW's decay is w·(1 − lr·decay)."""
    job = Job(tmp_path, steps=1, weight_decay=0.3, schedule="constant").run()
    before = torch.cat([p.flatten() for p in job.seen[0][2]])
    gradient = torch.cat([p.grad.flatten() for p in job.module.parameters()])
    expected = before * (1 - 0.05 * 0.3) - 0.05 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(job.weights, expected, rtol=0, atol=1e-6)


def test_learning_rate_of_each_step_follows_the_schedule(tmp_path):
    job, used = Job(tmp_path, steps=4, warmup_steps=2, schedule="linear"), []
    inner = job.trainer.loss.function

    def watch(step, batch):
        used.append(job.trainer.optimizer.param_groups[0]["lr"])
        return inner(step, batch)

    job.trainer.loss.function = watch
    job.run()
    assert used == pytest.approx([0.025, 0.05, 0.05, 0.025])


def test_gradient_is_clipped_and_its_norm_recorded_before(tmp_path):
    free, clipped = (Job(tmp_path / str(c), steps=1, clip_gradient_norm=c).run() for c in (0.0, 0.5))
    norm = torch.cat([p.grad.flatten() for p in clipped.module.parameters()]).norm()
    assert free.trainer.state.history[-1]["gradient_norm"] > 1
    assert clipped.trainer.state.history[-1]["gradient_norm"] == free.trainer.state.history[-1]["gradient_norm"]
    assert norm == pytest.approx(0.5, rel=1e-4)


def test_average_is_the_exponential_one_and_is_what_is_published(tmp_path):
    raw, averaged = Job(tmp_path / "raw").run(), Job(tmp_path / "ema", ema=0.7).run()
    path = [torch.cat([p.flatten() for p in weights]) for _, _, weights in raw.seen] + [raw.weights]
    expected = path[0]
    for weights in path[1:]:
        expected = 0.7 * expected + 0.3 * weights
    torch.testing.assert_close(averaged.weights, expected, rtol=0, atol=1e-6)
    assert (averaged.weights - raw.weights).abs().max() > 1e-3


def test_training_on_the_average_does_not_change_the_path(tmp_path):
    raw, averaged = Job(tmp_path / "raw").run(), Job(tmp_path / "ema", ema=0.7).run()
    assert raw.trainer.state.history == averaged.trainer.state.history


def test_history_has_a_row_every_few_steps_and_the_last_one(tmp_path):
    job = Job(tmp_path, steps=10, log_interval=4).run()
    assert [row["step"] for row in job.trainer.state.history] == [4, 8, 10]
    assert list(job.trainer.state.history[0]) == ["step", "loss", "square", "gradient_norm"]
    assert all(row["square"] == pytest.approx(row["loss"] ** 2) for row in job.trainer.state.history)


def test_run_is_repeated_to_the_bit_by_its_stream(tmp_path):
    first = Job(tmp_path / "a").run()
    torch.manual_seed(1)
    again = Job(tmp_path / "b").run()
    assert torch.equal(first.weights, again.weights)
    assert first.trainer.state.history == again.trainer.state.history


# Not finite ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_loss_that_is_not_finite_stops_before_the_optimiser_steps(tmp_path, bad):
    job = Job(tmp_path, at(6, lambda: bad))
    with pytest.raises(DivergedError) as error:
        job.run()
    path = tmp_path / "state" / "state.pt"
    assert "tiny run: loss is " in str(error.value)
    assert "at step 7 of 12" in str(error.value)
    assert f"{path} (step 6)" in str(error.value)
    assert path.exists()
    assert torch.equal(job.weights, torch.cat([p.flatten() for p in job.seen[-1][2]]))
    assert torch.isfinite(job.weights).all()


def test_scalar_that_is_not_finite_stops_too_and_is_named(tmp_path):
    job = Job(tmp_path, at(2, lambda: {"energy_gap": float("nan"), "acceptance": 0.5}))
    with pytest.raises(
        DivergedError, match=r"tiny run: energy_gap is nan at step 3 of 12; stopped before the optimiser"
    ):
        job.run()
    assert torch.equal(job.weights, torch.cat([p.flatten() for p in job.seen[-1][2]]))


def test_gradient_that_is_not_finite_stops_although_the_loss_is(tmp_path):
    job = Job(tmp_path)
    inner = job.trainer.loss.function

    def steep(step, batch):
        value, scalars = inner(step, batch)
        root = (value - value.detach()).abs().sqrt()  # 0, with an infinite slope
        return (value + root if step == 3 else value), scalars

    job.trainer.loss.function = steep
    with pytest.raises(DivergedError, match="gradient_norm is nan at step 4"):
        job.run()
    assert torch.equal(job.weights, torch.cat([p.flatten() for p in job.seen[-1][2]]))


def test_run_that_stopped_at_a_bad_loss_goes_on_as_if_it_had_not(tmp_path):
    """The batch and the noise of the failed step are drawn again, from the same place of the stream."""
    undisturbed = Job(tmp_path / "a", ema=0.9).run()
    with pytest.raises(DivergedError):
        Job(tmp_path / "b", at(6, lambda: float("nan")), ema=0.9).run()
    mended = Job(tmp_path / "b", ema=0.9).run()
    assert mended.seen[0][0] == 6
    assert torch.equal(mended.weights, undisturbed.weights)
    assert mended.trainer.state.history == undisturbed.trainer.state.history


def test_last_step_may_be_the_bad_one(tmp_path):
    with pytest.raises(DivergedError, match="step 12 of 12"):
        Job(tmp_path, at(11, lambda: float("nan"))).run()


# Stop and go on ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("step", [0, 5, 11])
def test_interrupted_run_goes_on_to_the_same_bits(tmp_path, step, number):
    settings = {"ema": 0.8, "weight_decay": 0.1, "warmup_steps": 3}
    undisturbed = Job(tmp_path / "a", **settings).run()
    stopped = Job(tmp_path / "b", at(step, lambda: terminate(number)), **settings)
    with pytest.raises(InterruptedRunError, match=f"tiny run: stopped by {number.name} at step {step + 1};"):
        stopped.run()
    resumed = Job(tmp_path / "b", **settings).run()
    assert [s for s, _, _ in resumed.seen] == list(range(step + 1, 12))
    assert torch.equal(resumed.weights, undisturbed.weights)
    assert resumed.trainer.state.history == undisturbed.trainer.state.history


def test_run_may_be_interrupted_again_and_again(tmp_path):
    undisturbed = Job(tmp_path / "a", ema=0.8).run()
    for step in (2, 3, 9):
        with pytest.raises(InterruptedRunError):
            Job(tmp_path / "b", at(step, terminate), ema=0.8).run()
    resumed = Job(tmp_path / "b", ema=0.8).run()
    assert torch.equal(resumed.weights, undisturbed.weights)
    assert resumed.trainer.state.history == undisturbed.trainer.state.history


def test_killed_run_loses_at_most_a_checkpoint_interval(tmp_path):
    """A crash (an exception from nowhere) with a state after every step costs that step only."""

    def crash():
        raise KeyboardInterrupt

    undisturbed = Job(tmp_path / "a").run()
    with pytest.raises(KeyboardInterrupt):
        Job(tmp_path / "b", at(7, crash), checkpoint_seconds=1e-9).run()
    resumed = Job(tmp_path / "b").run()
    assert resumed.seen[0][0] == 7
    assert torch.equal(resumed.weights, undisturbed.weights)


def test_within_the_checkpoint_interval_only_the_end_is_saved(tmp_path):
    Job(tmp_path, checkpoint_seconds=1e9).run()
    assert (tmp_path / "state" / "state.pt").exists()
    assert not (tmp_path / "state" / "state.previous.pt").exists()


def test_signal_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    with pytest.raises(InterruptedRunError):
        Job(tmp_path, at(1, terminate)).run()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before


def test_a_signal_that_is_ignored_does_not_stop_the_run(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        job = Job(tmp_path, at(1, lambda: os.kill(os.getpid(), signal.SIGINT))).run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert torch.equal(job.weights, Job(tmp_path / "undisturbed").run().weights)


def test_seconds_of_an_interrupted_run_add_up(tmp_path):
    def slow_end():
        time.sleep(0.05)
        terminate()

    with pytest.raises(InterruptedRunError):
        Job(tmp_path, at(3, slow_end)).run()
    resumed = Job(tmp_path).run()
    assert resumed.trainer.state.seconds > 0.05


def test_damaged_state_falls_back_to_the_one_before(tmp_path, capsys):
    undisturbed = Job(tmp_path / "a").run()
    for step in (3, 6):
        with pytest.raises(InterruptedRunError):
            Job(tmp_path / "b", at(step, terminate)).run()
    path = tmp_path / "b" / "state" / "state.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    resumed = Job(tmp_path / "b").run()
    assert f"warning: {path} is truncated or damaged" in capsys.readouterr().err
    assert resumed.seen[0][0] == 4
    assert torch.equal(resumed.weights, undisturbed.weights)


def test_state_of_another_run_is_not_resumed(tmp_path, capsys):
    with pytest.raises(InterruptedRunError):
        Job(tmp_path, at(3, terminate), identity={"parameters": "a", "seed": 0}).run()
    other = Job(tmp_path, identity={"parameters": "b", "seed": 0}).run()
    assert other.seen[0][0] == 0
    assert "belongs to a run with other parameters; it is not resumed" in capsys.readouterr().err


# Snapshots -----------------------------------------------------------------------------------------------------------


def snapshots(job):
    """Step → the flat weights of a snapshot."""
    return {step: torch.cat([t.flatten() for t in own.values()]) for step, own in job.trainer.weights.snapshots.items()}


def test_snapshots_are_the_weights_of_the_last_steps_evenly_apart(tmp_path):
    found = snapshots(Job(tmp_path / "a", steps=11, snapshots=3, snapshot_interval=4, schedule="constant").run())
    assert list(found) == [3, 7, 11]
    for step, weights in found.items():
        torch.testing.assert_close(
            weights, Job(tmp_path / f"until {step}", steps=step, schedule="constant").run().weights, rtol=0, atol=0
        )


def test_snapshots_are_of_the_average_where_the_average_is_published(tmp_path):
    settings = {"ema": 0.7, "schedule": "constant"}
    found = snapshots(Job(tmp_path / "a", steps=8, snapshots=2, snapshot_interval=3, **settings).run())
    for step in (5, 8):
        expected = Job(tmp_path / f"until {step}", steps=step, **settings).run().weights
        torch.testing.assert_close(found[step], expected, rtol=0, atol=0)


def test_snapshots_change_nothing_and_are_off_by_default(tmp_path):
    plain, kept = Job(tmp_path / "a").run(), Job(tmp_path / "b", snapshots=4, snapshot_interval=2).run()
    assert not plain.trainer.weights.snapshots
    torch.testing.assert_close(plain.weights, kept.weights, rtol=0, atol=0)


def test_snapshots_survive_an_interruption_to_the_bit(tmp_path):
    settings = {"snapshots": 3, "snapshot_interval": 4, "ema": 0.5}
    whole = snapshots(Job(tmp_path / "whole", **settings).run())
    with pytest.raises(InterruptedRunError):
        Job(tmp_path / "cut", disturb=at(6, terminate), **settings).run()
    resumed = snapshots(Job(tmp_path / "cut", **settings).run())
    assert list(resumed) == list(whole) == [4, 8, 12]
    for step in whole:
        torch.testing.assert_close(resumed[step], whole[step], rtol=0, atol=0)
