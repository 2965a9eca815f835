"""The training loop: bounded slices between checkpoints, finite or stopped, resumable to the bit."""

import contextlib
import math
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, NoReturn, Protocol

import torch
from torch import nn

from jebm.config.training import Optimisation
from jebm.errors import DivergedError, InterruptedRunError
from jebm.io.tensors import Weights
from jebm.runtime.distributed import ranks
from jebm.runtime.memory import memory_hint
from jebm.runtime.progress import Progress, say
from jebm.runtime.random import derive_seed
from jebm.training.batches import EpochSampler
from jebm.training.finite import Finiteness, Look
from jebm.training.optimisers import ParameterGroup, build_optimizer
from jebm.training.schedules import learning_rate
from jebm.training.skipping import SkipPolicy
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


class Stateful(Protocol):
    """What a loss keeps from step to step."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


class CarryingLoss(NamedTuple):
    """A loss together with what it keeps from step to step."""

    function: Loss
    carried: Mapping[str, Stateful]

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.function(step, batch)


def carried_by(loss: Loss) -> Mapping[str, Stateful]:
    """What a loss keeps from step to step, by name."""
    return loss.carried if isinstance(loss, CarryingLoss) else {}


class Trainer:
    """Minimises a loss over the parameters of one module.

    A step whose values are not finite stops the run, or is skipped as the settings allow: then nothing of it remains,
    neither in the weights and their average nor in the module's buffers and what is carried, but the random numbers
    that it used are gone.

    Args:
        module: what is trained.
        loss: computes the loss of a step; all its randomness comes from ``generator``.
        settings: optimiser, schedule, number of steps.
        data_count: number of training examples.
        generator: the run's stream: batches and everything random in the loss. Of several ranks each has its own for
            the loss from then on, and all have the batches in common, of which the loss gets this rank's share.
        state: where unfinished work is kept.
        checkpoint_seconds: how often.
        title: names the run in progress lines and errors.
        groups: the module's parameters in groups; none makes one of all, with the settings' rate and decay.
        limit: a value of ``watched`` larger than this, in size, is a divergence even while it is finite; it is never
            skipped.
        watched: ``loss``, or one of the scalars for the history.
        carried: what the loss keeps from step to step, by name; saved and resumed with the rest.
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
        carried: Mapping[str, Stateful] = MappingProxyType({}),
    ):
        self.module, self.loss, self.settings, self.generator = module, loss, settings, generator
        self.state, self.checkpoint_seconds, self.title = state, checkpoint_seconds, title
        self.finite = Finiteness(watched, limit, settings.skip_gradient_norm or math.inf)
        one = ParameterGroup(list(module.parameters()), settings.learning_rate, settings.weight_decay)
        self.groups = list(groups) or [one]
        self.parameters = [parameter for group in self.groups for parameter in group.parameters]
        self.ranks = ranks()
        self.order = self.ranks.split(generator)
        self.batches = EpochSampler(data_count, settings.batch_size, self.order)
        self.optimizer = build_optimizer(self.groups, settings)
        self.carried, self.skips = dict(carried), SkipPolicy(settings)
        self.buffers = _by_dtype(module.buffers())
        self.statistics = list(_running_statistics(module))
        # Running statistics belong to the weights: those that are published with averaged weights are averaged too.
        self.averaged = [*self.parameters, *(b for b in module.buffers() if b.is_floating_point())]
        self.average = [tensor.detach().clone() for tensor in self.averaged] if settings.ema else []
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
        self.ranks.follow([*self.module.parameters(), *self.module.buffers()])
        self.module.train()
        progress = Progress(self.title)
        with _stop_signals() as stop:
            saved = started = time.monotonic()
            before = self.seconds
            while self.step < self.settings.steps:
                self.advance()
                now = time.monotonic()
                self.seconds = before + now - started
                progress(self._describe(), self.step, self.settings.steps)
                number, due = self.ranks.largest(*stop[:1] or [0], now - saved >= self.checkpoint_seconds)
                if number or due:
                    self._look()
                    self._save()
                    saved = now
                if number:
                    name = signal.Signals(number).name
                    raise InterruptedRunError(
                        f"{self.title}: stopped by {name} at step {self.step}; run the same command to go on"
                    )
        # Kept until the result is known to be published whole: a kill in between costs nothing.
        self._save()
        self.use_average()

    @property
    def facts(self) -> dict:
        """For the record: the seconds, and how many steps were skipped where some may be."""
        skipped = {"skipped": self.skips.total} if self.skips.active else {}
        return {"seconds": round(self.seconds, 1), **skipped}

    @torch.no_grad()
    def use_average(self) -> None:
        """Leave the average, if there is one, in the module: what is published."""
        for tensor, average in zip(self.averaged if self.average else [], self.average, strict=True):
            tensor.copy_(average)

    def advance(self) -> None:
        """One step of the optimiser, and what belongs to it; see :meth:`run`."""
        for group, own in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = learning_rate(self.step, self.settings, own.learning_rate)
        before = self.generator.get_state(), self.order.get_state(), self.batches.state_dict(), self._kept()
        row = self._gradients(self.ranks.share(self.batches.next()))
        self.ranks.average_gradients(self.parameters)
        self.ranks.average(self.statistics)
        limit = self.settings.clip_gradient_norm or math.inf
        row["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, limit)
        row = self.ranks.means(row)
        self.finite.note(self.step, row, before)
        if self.settings.check_every > 1:
            self.optimizer.found_inf = self.finite.halted.float()
        if self.settings.check_every > 1 or self._look():
            self.optimizer.step()
            self._update_average()
            self.skips.taken()
        self.step += 1
        self._take_snapshot()
        logged = self.step % self.settings.log_every == 0 or self.step == self.settings.steps
        if logged or len(self.finite.looks) >= self.settings.check_every:
            self._look()
        if logged:
            self._log(row)

    def _take_snapshot(self) -> None:
        """Keep the weights, averaged if there is an average, of the last step and of those that precede it evenly."""
        before, every = self.settings.steps - self.step, self.settings.snapshot_every
        if every and before % every == 0 and before // every < self.settings.snapshots:
            self._look()
            averages = {id(p): average for p, average in zip(self.averaged, self.average, strict=False)}
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
        now = [tensor.detach() for tensor in self.averaged]
        if self.settings.check_every == 1:
            torch._foreach_lerp_(self.average, now, 1 - self.settings.ema)
            return
        # The optimiser is masked by it too; buffers are not, and may hold anything after a step that went wrong.
        now = [torch.where(self.finite.halted, *pair) for pair in zip(self.average, now, strict=True)]
        torch._foreach_lerp_(self.average, now, 1 - self.settings.ema)

    def _look(self) -> bool:
        """Whether all steps since the last look were finite. One that was not is skipped, or stops the run."""
        wrong = self.finite.first_wrong()
        if wrong is None:
            return True
        self._put_back(wrong.before[3])
        refusal = self.skips.refusal(wrong.step + 1)
        if self.skips.active and not refusal and not self.finite.diverged(wrong):
            self.skips.skip(wrong.step + 1)
            say(f"{self.title}: step {wrong.step + 1} skipped: {wrong.complaint()} ({self.skips.total} so far)")
            return False
        self._stop(wrong, refusal)

    def _stop(self, wrong: Look, refusal: str) -> NoReturn:
        """Save the last good state, which is what is in memory since the optimiser has not stepped, and give up."""
        self.step = wrong.step
        self.generator.set_state(wrong.before[0])
        self.order.set_state(wrong.before[1])
        self.batches.load_state_dict(wrong.before[2])
        self._save()
        raise DivergedError(
            f"{self.title}: {wrong.complaint()} at step {self.step + 1} of {self.settings.steps}; stopped before the "
            f"optimiser stepped{f'; {refusal}' if refusal and not self.finite.diverged(wrong) else ''}. "
            f"Last good checkpoint: {self.state.path} (step {self.step}). "
            "Lower the learning rate or the step size of the chain in params.yaml"
        )

    def _resume_streams(self, generators: list[torch.Tensor], order: torch.Tensor) -> None:
        """The streams of as many ranks as there were go on; other ranks get new ones, and the order of the data."""
        self.order.set_state(order)
        if len(generators) == self.ranks.size:
            self.generator.set_state(generators[self.ranks.rank])
        elif self.ranks.size > 1:
            seed = self.generator.initial_seed()
            self.generator.manual_seed(derive_seed(seed, "from step", self.step, "of", len(generators)))

    def _kept(self) -> tuple[list[torch.Tensor], dict[str, dict]]:
        """What a step changes before it is known to be finite: buffers, and the state of what is carried."""
        buffers = [torch.cat([b.reshape(-1) for b in group]) for group in self.buffers]  # a kernel a type, not a buffer
        return buffers, {key: part.state_dict() for key, part in self.carried.items()}

    @torch.no_grad()
    def _put_back(self, kept: tuple[list[torch.Tensor], dict[str, dict]]) -> None:
        for group, before in zip(self.buffers, kept[0], strict=True):
            for buffer, own in zip(group, before.split([b.numel() for b in group]), strict=True):
                buffer.copy_(own.view_as(buffer))
        for key, part in self.carried.items():
            part.load_state_dict(kept[1][key])

    def _log(self, row: dict[str, torch.Tensor]) -> None:
        """A row of the history; of a step that was skipped, what was finite."""
        values = {key: float(value) for key, value in row.items()}
        if self.skips.active:
            finite = {key: value for key, value in values.items() if math.isfinite(value)}
            values = {**finite, "skipped": self.skips.total}
        self.history.append({"step": self.step, **values})

    def _describe(self) -> str:
        if not self.history:
            return "step"
        shown = {key: value for key, value in self.history[-1].items() if key != "step"}
        if self.skips.active:
            shown["skipped"] = self.skips.total
        return " ".join(f"{key}={value:.3g}" for key, value in shown.items()) + "; step"

    def _save(self) -> None:
        """Rank 0 writes, and the others wait for it: who stops after this has something to go on from."""
        generators = self.ranks.gather(self.generator.get_state())
        if self.ranks.leads:
            self._write(generators)
        self.ranks.wait()

    def _write(self, generators: list[torch.Tensor]) -> None:
        self.state.save(
            {
                "step": self.step,
                "seconds": self.seconds,
                "history": self.history,
                "module": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average,
                "generators": generators,
                "order": self.order.get_state(),
                "batches": self.batches.state_dict(),
                "skips": self.skips.state_dict(),
                "carried": {key: part.state_dict() for key, part in self.carried.items()},
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
        self._resume_streams(content["generators"], content["order"])
        self.batches.load_state_dict(content["batches"])
        self.skips.load_state_dict(content["skips"])
        for key, part in self.carried.items():
            part.load_state_dict(content["carried"][key])
        self.snapshots = content["snapshots"]
        say(f"{self.title}: going on from step {self.step} of {self.settings.steps}")


def _by_dtype(tensors: Iterable[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Tensors of one type together."""
    groups: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    return list(groups.values())


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


def _running_statistics(module: nn.Module) -> Iterator[torch.Tensor]:
    """What batch normalisation keeps of the batches: of each rank's share its own, until it is averaged."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats:
            yield from (part.running_mean, part.running_var)


@contextlib.contextmanager
def _stop_signals():
    """A list that gets the numbers of SIGTERM and SIGUSR1 as they come, so that the loop can stop between two steps."""
    caught: list[int] = []

    def note(number, _):
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
