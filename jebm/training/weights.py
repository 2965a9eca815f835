"""The final weights of a run: those of the last step or their moving average, and snapshots of earlier steps."""

from collections.abc import Iterable

import torch
from torch import nn

from jebm.config.training import Optimisation
from jebm.io.tensors import Weights


class FinalWeights:
    """Tracks the weights of a module during training, and chooses those that are saved.

    The running statistics of batch norm count as weights and are averaged too.

    Args:
        parameters: the trained parameters of the module.
        settings: ``ema``, ``snapshots`` and ``snapshot_every``.
    """

    def __init__(self, module: nn.Module, parameters: Iterable[nn.Parameter], settings: Optimisation):
        self.module, self.settings = module, settings
        self.averaged = [*parameters, *(buffer for buffer in module.buffers() if buffer.is_floating_point())]
        self.average = [tensor.detach().clone() for tensor in self.averaged] if settings.ema else []
        self.snapshots: dict[int, Weights] = {}

    def update(self) -> None:
        """Update the moving average after a step of the optimiser."""
        if self.average:
            now = [tensor.detach() for tensor in self.averaged]
            torch._foreach_lerp_(self.average, now, 1 - self.settings.ema)

    def take_snapshot(self, step: int) -> None:
        """Store a snapshot if the settings ask for one after this step."""
        before, every = self.settings.steps - step, self.settings.snapshot_every
        if not every or before % every or before // every >= self.settings.snapshots:
            return
        averages = {id(tensor): average for tensor, average in zip(self.averaged, self.average, strict=False)}
        state = self.module.state_dict(keep_vars=True)
        chosen = {name: averages.get(id(tensor), tensor) for name, tensor in state.items()}
        self.snapshots[step] = {name: tensor.detach().to("cpu", copy=True) for name, tensor in chosen.items()}

    @torch.no_grad()
    def use_average(self) -> None:
        """Copy the moving average, if there is one, into the module."""
        for tensor, average in zip(self.averaged if self.average else [], self.average, strict=True):
            tensor.copy_(average)

    def state_dict(self) -> dict:
        return {"average": self.average, "snapshots": self.snapshots}

    def load_state_dict(self, state: dict) -> None:
        self.average, self.snapshots = state["average"], state["snapshots"]
