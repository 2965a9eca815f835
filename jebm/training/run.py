"""A training run: its title, checkpoint file, progress and result."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch

from jebm.io.tensors import Weights
from jebm.runtime.distributed import ranks
from jebm.runtime.random import derive_seed
from jebm.training.state import StateFile


@dataclass(frozen=True)
class TrainingRun:
    """What training needs besides a model, a loss and settings."""

    title: str
    """Name of the run in progress lines and errors."""
    file: StateFile
    """File for checkpoints."""
    rng: torch.Generator
    """Random number generator of the run, for the loss and the order of the data."""
    checkpoint_seconds: float = 60.0
    """Seconds between two checkpoints."""


class RunState:
    """Progress of a run: step, history, elapsed time and random number generators.

    With several ranks, each has its own random numbers for the loss (``rng``), and all share those for the order of the
    data (``order``). A single process uses one generator for both.
    """

    def __init__(self, rng: torch.Generator):
        self.rng, self.order = rng, ranks().fork_rng(rng)
        self.step, self.seconds = 0, 0.0
        self.history: list[dict] = []

    def state_dict(self) -> dict:
        """Must be called on all ranks at once, since it gathers the states of their generators."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "rngs": ranks().all_gather(self.rng.get_state()),
            "order": self.order.get_state(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue a run. Ranks of another number than before get new random numbers; the order of the data goes on."""
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        self.order.set_state(state["order"])
        rngs, own = state["rngs"], ranks()
        if len(rngs) == own.size:
            self.rng.set_state(rngs[own.rank])
        elif own.size > 1:
            self.rng.manual_seed(derive_seed(self.rng.initial_seed(), "from step", self.step, "of", len(rngs)))


class TrainingResult(NamedTuple):
    """What training returns besides the weights in the module."""

    history: list[dict]
    facts: dict
    """Facts for the record."""
    snapshots: dict[int, Weights] = {}
    """Step → the final weights as they would have been after that step."""

    def with_facts(self, facts: dict) -> "TrainingResult":
        """This result with further facts for the record."""
        return self._replace(facts=self.facts | facts)

    def part(self, name: str) -> "TrainingResult":
        """This result with the snapshots of one submodule, under the names that the submodule gives its weights."""
        prefix = f"{name}."
        own = {
            step: {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
            for step, weights in self.snapshots.items()
        }
        return self._replace(snapshots=own)


STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Catches SIGTERM, SIGUSR1 and SIGINT (Ctrl-C). Yields a list of the numbers received so far, so that the loop can
    stop between two steps. A second SIGINT interrupts at once. A signal that is ignored, as Ctrl-C is in a background
    job of a shell script, stays ignored."""
    caught: list[int] = []

    def note(number, _):
        if number == signal.SIGINT and number in caught:
            raise KeyboardInterrupt
        caught.append(number)

    heard = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
