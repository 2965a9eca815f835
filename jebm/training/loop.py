"""The training loop: bounded slices between checkpoints, finite or stopped, resumable to the bit."""

import contextlib
import math
import re
import signal
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from jebm.config import Optimisation
from jebm.errors import DivergedError, InterruptedRunError
from jebm.memory import memory_hint
from jebm.progress import Progress, say
from jebm.store import Weights
from jebm.training.batches import EpochSampler
from jebm.training.finite import Finiteness
from jebm.training.schedules import learning_rate
from jebm.training.state import StateFile

Loss = Callable[[int, torch.Tensor], tuple[torch.Tensor, dict[str, torch.Tensor]]]
"""(step, indices of a batch) → the loss to descend, and scalars for the history."""


class Fitted(NamedTuple):
    """What training leaves besides the weights in the module."""

    history: list[dict]
    facts: dict
    """For the record."""
    snapshots: dict[int, Weights] = {}
    """Step → the module as it would have been published after that step."""


class ParameterGroup(NamedTuple):
    """Parameters with a learning rate (the peak of the schedule) and a weight decay of their own."""

    parameters: list[nn.Parameter]
    learning_rate: float
    weight_decay: float


class Trainer:
    """Minimises a loss over the parameters of one module with AdamW.

    Args:
        module: what is trained.
        loss: computes the loss of a step; all its randomness comes from ``generator``.
        settings: optimiser, schedule, number of steps.
        data_count: number of training examples.
        generator: the run's stream: batches and everything random in the loss.
        state: where unfinished work is kept.
        checkpoint_seconds: how often.
        title: names the run in progress lines and errors.
        groups: the module's parameters in groups; none makes one of all, with the settings' rate and decay.
        limit: a value of ``watched`` larger than this, in size, is a divergence even while it is finite.
        watched: ``loss``, or one of the scalars for the history.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        settings: Optimisation,
        data_count: int,
        generator: torch.Generator,
        state: StateFile,
        checkpoint_seconds: float,
        title: str,
        groups: Sequence[ParameterGroup] = (),
        limit: float = math.inf,
        watched: str = "loss",
    ):
        self.module, self.loss, self.settings, self.generator = module, loss, settings, generator
        self.state, self.checkpoint_seconds, self.title = state, checkpoint_seconds, title
        self.finite = Finiteness(watched, limit)
        one = ParameterGroup(list(module.parameters()), settings.learning_rate, settings.weight_decay)
        self.groups = list(groups) or [one]
        self.parameters = [parameter for group in self.groups for parameter in group.parameters]
        self.batches = EpochSampler(data_count, settings.batch_size, generator)
        self.optimizer = torch.optim.AdamW(
            [{"params": g.parameters, "lr": g.learning_rate, "weight_decay": g.weight_decay} for g in self.groups],
            betas=tuple(settings.betas),
            **{"fused" if settings.fused else "foreach": True},
        )
        self.average = [p.detach().clone() for p in self.parameters] if settings.ema else []
        self.step, self.history, self.seconds = 0, [], 0.0
        self.snapshots: dict[int, Weights] = {}
        """Step → what would be published after it, for the last ones that the settings ask for."""

    def run(self) -> None:
        """Train to the last step and leave the published weights (the average, if there is one) in the module.

        Raises:
            DivergedError: a loss, a scalar of the history or the gradient norm is not finite, or the loss exceeds
                the limit; nothing was updated, and the weights of before can still be published.
            InterruptedRunError: SIGTERM or SIGUSR1 asked to stop; the state is saved.
        """
        self._resume()
        progress = Progress(self.title)
        with _stop_signals() as stop:
            saved = started = time.monotonic()
            before = self.seconds
            while self.step < self.settings.steps:
                self.advance()
                now = time.monotonic()
                self.seconds = before + now - started
                progress(self._describe(), self.step, self.settings.steps)
                if stop or now - saved >= self.checkpoint_seconds:
                    self._look()
                    self._save()
                    saved = now
                if stop:
                    raise InterruptedRunError(
                        f"{self.title}: stopped by {stop[0]} at step {self.step}; run the same command to go on"
                    )
        # Kept until the result is known to be published whole: a kill in between costs nothing.
        self._save()
        self.use_average()

    @torch.no_grad()
    def use_average(self) -> None:
        """Leave the average, if there is one, in the module: what is published."""
        for parameter, average in zip(self.parameters if self.average else [], self.average, strict=True):
            parameter.copy_(average)

    def advance(self) -> None:
        """One step of the optimiser, and what belongs to it; see :meth:`run`."""
        for group, own in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = learning_rate(self.step, self.settings, own.learning_rate)
        random_before = self.generator.get_state(), self.batches.state_dict()
        row = self._gradients(self.batches.next())
        limit = self.settings.clip_gradient_norm or math.inf
        row["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, limit)
        self.finite.note(self.step, row, random_before)
        if self.settings.check_every == 1:
            self._look()
        else:
            self.optimizer.found_inf = self.finite.halted.float()
        self.optimizer.step()
        self._update_average()
        self.step += 1
        self._take_snapshot()
        logged = self.step % self.settings.log_every == 0 or self.step == self.settings.steps
        if logged or len(self.finite.looks) >= self.settings.check_every:
            self._look()
        if logged:
            self.history.append({"step": self.step, **{key: float(value) for key, value in row.items()}})

    def _take_snapshot(self) -> None:
        """Keep the weights, averaged if there is an average, of the last step and of those that precede it evenly."""
        before, every = self.settings.steps - self.step, self.settings.snapshot_every
        if every and before % every == 0 and before // every < self.settings.snapshots:
            self._look()
            averages = {id(p): average for p, average in zip(self.parameters, self.average, strict=False)}
            state = self.module.state_dict(keep_vars=True)
            chosen = {name: averages.get(id(tensor), tensor) for name, tensor in state.items()}
            self.snapshots[self.step] = {n: t.detach().to("cpu", copy=True) for n, t in chosen.items()}

    def _gradients(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Leave the gradient of the batch's mean loss in the parameters; the loss and the scalars for the history."""
        self.optimizer.zero_grad()
        row: dict[str, torch.Tensor] = {}
        for part in batch.tensor_split(min(self.settings.accumulate, len(batch))):
            share = len(part) / len(batch)
            with memory_hint(f"{self.title}: a step on {len(part)} examples", self._advice(len(part))):
                loss, scalars = self.loss(self.step, part)
                (loss * share).backward()
            for key, value in {"loss": loss, **scalars}.items():
                own = value.detach() * share
                row[key] = row[key] + own if key in row else own
        return row

    def _advice(self, examples: int) -> str:
        block = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self.settings).__name__).lower()
        whole = self.batches.batch_size
        return (
            f"lower {block}.batch_size (now {whole}) in params.yaml, or raise {block}.accumulate (now "
            f"{self.settings.accumulate}), which keeps the batch and computes it in smaller parts than {examples}"
        )

    def _update_average(self) -> None:
        if not self.average:
            return
        weights = [p.detach() for p in self.parameters]
        if self.settings.check_every == 1:
            torch._foreach_lerp_(self.average, weights, 1 - self.settings.ema)
        else:
            share = (1 - self.settings.ema) * (~self.finite.halted).to(weights[0])
            torch._foreach_lerp_(self.average, weights, [share] * len(weights))

    def _look(self) -> None:
        """Stop if a step since the last look was not finite."""
        wrong = self.finite.first_wrong()
        if wrong is None:
            return
        # The optimiser has not stepped since: what is in memory is still the last good state.
        self.step = wrong.step
        self.generator.set_state(wrong.before[0])
        self.batches.load_state_dict(wrong.before[1])
        self._save()
        raise DivergedError(
            f"{self.title}: {wrong.complaint()} at step {self.step + 1} of {self.settings.steps}; stopped before the "
            f"optimiser stepped. Last good checkpoint: {self.state.path} (step {self.step}). "
            "Lower the learning rate or the step size of the chain in params.yaml"
        )

    def _describe(self) -> str:
        if not self.history:
            return "step"
        shown = {key: value for key, value in self.history[-1].items() if key != "step"}
        return " ".join(f"{key}={value:.3g}" for key, value in shown.items()) + "; step"

    def _save(self) -> None:
        self.state.save(
            {
                "step": self.step,
                "seconds": self.seconds,
                "history": self.history,
                "module": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average,
                "generator": self.generator.get_state(),
                "batches": self.batches.state_dict(),
                "snapshots": self.snapshots,
            }
        )

    def _resume(self) -> None:
        content = self.state.load()
        if content is None:
            return
        self.step, self.seconds, self.history = content["step"], content["seconds"], content["history"]
        self.module.load_state_dict(content["module"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.average = content["average"]
        self.generator.set_state(content["generator"])
        self.batches.load_state_dict(content["batches"])
        self.snapshots = content["snapshots"]
        say(f"{self.title}: going on from step {self.step} of {self.settings.steps}")


def run_to_the_end(trainer: Trainer, may_diverge: bool) -> dict:
    """Train; facts for the record. Where training may diverge, the weights of the last good step are left in the
    module and ``diverged_at`` says which step it was that failed.

    Raises:
        DivergedError: training diverged and may not.
    """
    try:
        trainer.run()
    except DivergedError as error:
        if not may_diverge:
            raise
        say(f"{error}; may_diverge: publishing the weights of step {trainer.step}")
        trainer.use_average()
        return {"diverged_at": trainer.step + 1}
    return {}


@contextlib.contextmanager
def _stop_signals():
    """A list that gets the name of the first SIGTERM or SIGUSR1, so that the loop can stop between two steps."""
    caught: list[str] = []

    def note(number, _):
        caught.append(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
