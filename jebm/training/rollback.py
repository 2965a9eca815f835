"""Rolling back a step whose values are not finite.

The optimiser has not yet stepped when this is detected, so weights and EMA need no rollback. Buffers (batch norm) and
the state of the loss do, and so does the random number generator if the step is to be repeated.
"""

import torch
from torch import nn

from jebm.training.batches import EpochSampler
from jebm.training.loss import Loss
from jebm.training.run import RunState


class Rollback:
    """Stores what a step changes before its values are known to be finite."""

    def __init__(self, module: nn.Module, loss: Loss, state: RunState, batches: EpochSampler):
        self.loss, self.state, self.batches = loss, state, batches
        self.buffers: dict[torch.dtype, list[torch.Tensor]] = {}
        for buffer in module.buffers():
            self.buffers.setdefault(buffer.dtype, []).append(buffer)

    def mark(self) -> None:
        """Store the present state, before a step."""
        self._rng, self._order = self.state.rng.get_state(), self.state.order.get_state()
        self._batches, self._loss = self.batches.state_dict(), self.loss.state_dict()
        # One copy per data type instead of one per buffer, because a deep hierarchy has hundreds of small buffers.
        self._flat = [torch.cat([buffer.reshape(-1) for buffer in group]) for group in self.buffers.values()]

    @torch.no_grad()
    def undo(self) -> None:
        """Restore buffers and loss, as for a skipped step: the random numbers of the step stay consumed."""
        for group, flat in zip(self.buffers.values(), self._flat, strict=True):
            for buffer, before in zip(group, flat.split([buffer.numel() for buffer in group]), strict=True):
                buffer.copy_(before.view_as(buffer))
        self.loss.load_state_dict(self._loss)

    def rewind(self) -> None:
        """Restore everything, so that the step can be repeated with the same batch and the same random numbers."""
        self.undo()
        self.state.rng.set_state(self._rng)
        self.state.order.set_state(self._order)
        self.batches.load_state_dict(self._batches)
