"""The weights that a run ends with: the last ones or their moving average, and snapshots of steps before the end."""

from collections.abc import Iterable

import torch
from torch import nn

from jebm.config.training import Optimisation
from jebm.io.tensors import Weights


class FinalWeights:
    """Follows the weights of a module during training, and chooses what is published of them.

    Running statistics of batch norm belong to the weights, so the average comprises them.

    Args:
        parameters: those of the module that are trained.
        settings: ``ema`` and how many snapshots, how far apart.
    """

    def __init__(self, module: nn.Module, parameters: Iterable[nn.Parameter], settings: Optimisation):
        self.module, self.settings = module, settings
        self.averaged = [*parameters, *(buffer for buffer in module.buffers() if buffer.is_floating_point())]
        self.average = [tensor.detach().clone() for tensor in self.averaged] if settings.ema else []
        self.snapshots: dict[int, Weights] = {}

    def update(self) -> None:
        """Take a step of the optimiser into the average."""
        if self.average:
            now = [tensor.detach() for tensor in self.averaged]
            torch._foreach_lerp_(self.average, now, 1 - self.settings.ema)

    def take_snapshot(self, step: int) -> None:
        """Keep what would be published after a step, if it is the last one or one of those that precede it evenly."""
        before, every = self.settings.steps - step, self.settings.snapshot_every
        if not every or before % every or before // every >= self.settings.snapshots:
            return
        averages = {id(tensor): average for tensor, average in zip(self.averaged, self.average, strict=False)}
        state = self.module.state_dict(keep_vars=True)
        chosen = {name: averages.get(id(tensor), tensor) for name, tensor in state.items()}
        self.snapshots[step] = {name: tensor.detach().to("cpu", copy=True) for name, tensor in chosen.items()}

    @torch.no_grad()
    def use_average(self) -> None:
        """Leave the average, if there is one, in the module."""
        for tensor, average in zip(self.averaged if self.average else [], self.average, strict=True):
            tensor.copy_(average)

    def state_dict(self) -> dict:
        return {"average": self.average, "snapshots": self.snapshots}

    def load_state_dict(self, state: dict) -> None:
        self.average, self.snapshots = state["average"], state["snapshots"]
