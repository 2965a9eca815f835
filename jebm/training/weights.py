"""The final weights of a run: those of the last step, their moving average, or the best of several steps; and snapshots
of earlier steps."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from jebm.config.training import Optimisation
from jebm.io.tensors import Weights


class FinalWeights:
    """Tracks the weights of a module during training, and chooses those that are saved.

    The running statistics of batch norm count as weights and are averaged too.

    Args:
        parameters: the trained parameters of the module.
        settings: ``ema``, ``snapshots`` and ``snapshot_interval``.
    """

    def __init__(self, module: nn.Module, parameters: Iterable[nn.Parameter], settings: Optimisation):
        self.module, self.settings = module, settings
        self.averaged = [*parameters, *(buffer for buffer in module.buffers() if buffer.is_floating_point())]
        self.average = [tensor.detach().clone() for tensor in self.averaged] if settings.ema else []
        self.snapshots: dict[int, Weights] = {}
        self.best: dict = {}

    def update(self) -> None:
        """Update the moving average after a step of the optimiser."""
        if self.average:
            now = [tensor.detach() for tensor in self.averaged]
            torch._foreach_lerp_(self.average, now, 1 - self.settings.ema)

    def take_snapshot(self, step: int) -> None:
        """Store a snapshot if the settings ask for one after this step."""
        before, every = self.settings.steps - step, self.settings.snapshot_interval
        if not every or before % every or before // every >= self.settings.snapshots:
            return
        averages = {id(tensor): average for tensor, average in zip(self.averaged, self.average, strict=False)}
        state = self.module.state_dict(keep_vars=True)
        chosen = {name: averages.get(id(tensor), tensor) for name, tensor in state.items()}
        self.snapshots[step] = {name: tensor.detach().to("cpu", copy=True) for name, tensor in chosen.items()}

    @contextmanager
    def averaged_in_place(self) -> Iterator[None]:
        """A context in which the module has the moving average, if there is one, as its weights."""
        present = [tensor.detach().clone() for tensor in self.averaged] if self.average else []
        self._set(self.average)
        try:
            yield
        finally:
            self._set(present)

    def consider(self, step: int, gain: float) -> None:
        """Keep the weights after this step (their moving average, if there is one) as the final ones if their gain is
        the highest so far."""
        if math.isfinite(gain) and (not self.best or gain > self.best["gain"]):
            chosen = [tensor.detach().clone() for tensor in self.average or self.averaged]
            self.best = {"step": step, "gain": gain, "weights": chosen}

    def use(self) -> None:
        """Copy the final weights into the module."""
        self._set(self.best["weights"] if self.best else self.average)

    def facts(self) -> dict:
        """For the record: the step of the best weights and their gain, if steps are compared."""
        return {"selected_step": self.best["step"], "validation_gain": self.best["gain"]} if self.best else {}

    @torch.no_grad()
    def _set(self, weights: list[torch.Tensor]) -> None:
        for tensor, value in zip(self.averaged if weights else [], weights, strict=True):
            tensor.copy_(value)

    def state_dict(self) -> dict:
        return {"average": self.average, "snapshots": self.snapshots, "best": self.best}

    def load_state_dict(self, state: dict) -> None:
        self.average, self.snapshots, self.best = state["average"], state["snapshots"], state["best"]
