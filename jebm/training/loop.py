"""The training loop. It stops at values that are not finite, saves checkpoints, and resumes bit by bit."""

import math
import re
import signal
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn, Protocol

import torch
from torch import nn

from jebm.config.training import Optimisation
from jebm.errors import DivergedError, InterruptedRunError
from jebm.runtime.distributed import ranks
from jebm.runtime.memory import explain_out_of_memory
from jebm.runtime.progress import Progress, log
from jebm.training.batches import EpochSampler
from jebm.training.finite import Divergence, wrong_values
from jebm.training.loss import Loss, Scalars
from jebm.training.optimisers import ParameterGroup, build_optimizer
from jebm.training.rollback import Rollback
from jebm.training.run import RunState, TrainingResult, TrainingRun, stop_signals
from jebm.training.schedules import learning_rate
from jebm.training.skipping import SkipPolicy
from jebm.training.state import Checkpoint
from jebm.training.weights import FinalWeights


class Selection(Protocol):
    """Computes how good the present weights of a module are."""

    every: int
    """Number of steps between two computations."""

    def __call__(self) -> torch.Tensor:
        """A scalar; higher is better."""


class Trainer:
    """Minimises a loss over the parameters of one module.

    A step whose values are not finite stops training, or is skipped if the settings allow it. A skipped step is rolled
    back completely (weights, EMA, buffers, state of the loss). Only the state of the random number generator advances.

    Args:
        module: the module to train.
        loss: computes the loss of a step; all its random numbers come from ``run.rng``. With several ranks, each has
            its own share of the batch and its own random numbers.
        settings: optimiser, schedule, number of steps.
        run: title, random number generator, and the file for checkpoints.
        groups: parameter groups with their own learning rates and weight decays; if empty, all parameters form one
            group with those of the settings.
        divergence: when training counts as diverged although all values are finite.
        selection: computes a gain for the weights (their moving average, if there is one) every ``selection.every``
            steps and at the last one. The final weights are those with the highest gain; None takes the last ones.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        settings: Optimisation,
        run: TrainingRun,
        groups: Sequence[ParameterGroup] = (),
        divergence: Divergence = Divergence(),  # noqa: B008 - frozen
        selection: Selection | None = None,
    ):
        self.selection = selection
        self.module, self.loss, self.settings, self.run, self.divergence = module, loss, settings, run, divergence
        one = ParameterGroup(list(module.parameters()), settings.learning_rate, settings.weight_decay)
        self.groups = list(groups) or [one]
        self.parameters = [parameter for group in self.groups for parameter in group.parameters]
        self.limits = {"gradient_norm": settings.skip_gradient_norm or math.inf, divergence.watched: divergence.limit}
        self.statistics = list(_running_statistics(module))
        self.ranks = ranks()
        self.state = RunState(run.rng)
        self.batches = EpochSampler(loss.examples, settings.batch_size, self.state.order)
        self.optimizer = build_optimizer(self.groups, settings)
        self.weights = FinalWeights(module, self.parameters, settings)
        self.skips = SkipPolicy(settings)
        self.rollback = Rollback(module, loss, self.state, self.batches)
        self.checkpoint = Checkpoint(
            run.file,
            state=self.state,
            module=module,
            optimizer=self.optimizer,
            weights=self.weights,
            batches=self.batches,
            skips=self.skips,
            loss=loss,
        )

    def train(self) -> TrainingResult:
        """Train to the last step, and leave the final weights (their EMA, if there is one) in the module.

        Raises:
            DivergedError: a loss, a scalar of the history or the gradient norm is not finite, or the watched value
                exceeds its limit, and divergence is not allowed. That step has updated nothing.
            InterruptedRunError: SIGTERM or SIGUSR1 asked to stop; the state is saved.
        """
        diverged = {}
        try:
            self._run_steps()
        except DivergedError as error:
            if not self.divergence.allowed:
                raise
            log(f"{error}; allow_divergence: publishing the weights of step {self.state.step}")
            diverged = {"diverged_at": self.state.step + 1}
        self.weights.use()
        skipped = {"skipped": self.skips.total} if self.skips.active else {}
        facts = {"seconds": round(self.state.seconds, 1), **skipped, **diverged, **self.loss.facts()}
        facts |= self.weights.facts()
        return TrainingResult(self.state.history or [{"step": self.state.step}], facts, self.weights.snapshots)

    def _run_steps(self) -> None:
        if self.checkpoint.load():
            log(f"{self.run.title}: going on from step {self.state.step} of {self.settings.steps}")
        self.ranks.broadcast_([*self.module.parameters(), *self.module.buffers()])
        self.module.train()
        progress = Progress(self.run.title)
        with stop_signals() as caught:
            saved = before = time.monotonic()
            while self.state.step < self.settings.steps:
                self.advance()
                now = time.monotonic()
                self.state.seconds, before = self.state.seconds + now - before, now
                progress(self._describe(), self.state.step, self.settings.steps)
                number, due = self.ranks.max(*caught[:1] or [0], now - saved >= self.run.checkpoint_seconds)
                if number or due:
                    self.checkpoint.save()
                    saved = now
                if number:
                    raise InterruptedRunError(
                        f"{self.run.title}: stopped by {signal.Signals(number).name} at step {self.state.step}; "
                        "run the same command to go on"
                    )
        # The state is deleted only after the complete result was recorded, so that a kill in between costs nothing.
        self.checkpoint.save()

    def advance(self) -> None:
        """Take one step: compute the gradient of a batch, and update the weights if all values are finite."""
        for target, group in zip(self.optimizer.param_groups, self.groups, strict=True):
            target["lr"] = learning_rate(self.state.step, self.settings, group.learning_rate)
        self.rollback.mark()
        row = self._gradients(self.ranks.shard_batch(self.batches.next()))
        self.ranks.average_gradients(self.parameters)
        self.ranks.average(self.statistics)
        limit = self.settings.clip_gradient_norm or math.inf
        row["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, limit)
        row = self.ranks.mean(row)
        wrong = wrong_values(row, self.limits, self.loss.lower_limits)
        if wrong:
            self._skip_or_stop(wrong)
        else:
            self.optimizer.step()
            self.weights.update()
            self.skips.reset()
        self.state.step += 1
        self.weights.take_snapshot(self.state.step)
        gain = self._select()
        if gain or self.state.step % self.settings.log_interval == 0 or self.state.step == self.settings.steps:
            self._log(row | gain)

    def _select(self) -> Scalars:
        """At every ``selection.every``-th step and at the last one: compute the gain of the weights, and keep them if
        it is the highest so far. Returns the gain for the history."""
        step = self.state.step
        if self.selection is None or (step % self.selection.every and step != self.settings.steps):
            return {}
        with self.weights.averaged_in_place():
            gain = self.ranks.mean({"validation_gain": self.selection()})
        self.weights.consider(step, float(gain["validation_gain"]))
        return gain

    def _gradients(self, batch: torch.Tensor) -> Scalars:
        """Store the gradient of the batch's mean loss in the parameters. Returns the loss and the scalars for the
        history."""
        self.optimizer.zero_grad()
        row: Scalars = {}
        for part in batch.tensor_split(min(self.settings.accumulate, len(batch))):
            share = len(part) / len(batch)
            with explain_out_of_memory(f"{self.run.title}: a step on {len(part)} examples", self._advice(len(part))):
                loss, scalars = self.loss(self.state.step, part)
                (loss * share).backward()
            for key, value in {"loss": loss, **scalars}.items():
                weighted = value.detach() * share
                row[key] = row[key] + weighted if key in row else weighted
        return row

    def _advice(self, examples: int) -> str:
        block = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self.settings).__name__).lower()
        whole = self.batches.batch_size
        return (
            f"lower {block}.batch_size (now {whole}), or raise {block}.accumulate (now "
            f"{self.settings.accumulate}), which keeps the batch and computes it in smaller parts than {examples}"
        )

    def _skip_or_stop(self, wrong: dict[str, float]) -> None:
        """Roll back a step with these wrong values; count it as skipped if that is allowed, otherwise stop training."""
        problem = ", ".join(f"{name} is {value:.4g}" for name, value in wrong.items())
        number = self.state.step + 1
        low = any(math.isfinite(value) for name, value in wrong.items() if name in self.loss.lower_limits)
        diverged = self.divergence.shown_by(wrong) or low
        reason = self.skips.why_not(number)
        if diverged or reason or not self.skips.active:
            self._stop(problem, "" if diverged else reason)
        self.rollback.undo()
        self.skips.skip(number)
        log(f"{self.run.title}: step {number} skipped: {problem} ({self.skips.total} so far)")

    def _stop(self, problem: str, reason: str) -> NoReturn:
        """Save the state from before the step, from which training can be resumed, and raise the error."""
        self.rollback.rewind()
        self.checkpoint.save()
        raise DivergedError(
            f"{self.run.title}: {problem} at step {self.state.step + 1} of {self.settings.steps}; stopped before the "
            f"optimiser stepped{f'; {reason}' if reason else ''}. "
            f"Last good checkpoint: {self.run.file.path} (step {self.state.step}). "
            "Lower the learning rate or the step size of the chain; for few effective samples, raise the pool or "
            "choose another estimator"
        )

    def _log(self, row: Scalars) -> None:
        """Append a row to the history. If steps may be skipped, it holds only finite values, and the number of skipped
        steps."""
        values = {key: float(value) for key, value in row.items()}
        if self.skips.active:
            finite = {key: value for key, value in values.items() if math.isfinite(value)}
            values = {**finite, "skipped": self.skips.total}
        self.state.history.append({"step": self.state.step, **values})

    def _describe(self) -> str:
        """The last row of the history, for the progress line."""
        if not self.state.history:
            return "step"
        shown = {key: value for key, value in self.state.history[-1].items() if key != "step"}
        if self.skips.active:
            shown["skipped"] = self.skips.total
        return " ".join(f"{key}={value:.3g}" for key, value in shown.items()) + "; step"


def _running_statistics(module: nn.Module) -> Iterator[torch.Tensor]:
    """The running statistics of all batch-norm layers. Each rank updates them with its own share of the batch, so they
    must be averaged."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats:
            yield from (part.running_mean, part.running_var)
