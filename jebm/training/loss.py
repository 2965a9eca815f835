"""The interface of losses: functions of the step and the batch, with a state that is saved in checkpoints."""

from abc import ABC, abstractmethod

import torch

Scalars = dict[str, torch.Tensor]


class Loss(ABC):
    """A training objective: a mean over the examples of a batch.

    Args:
        examples: number of training examples; batches hold indices below it.
    """

    lower_limits: dict[str, float] = {}
    """Scalar of the history → the value below which training counts as diverged."""

    def __init__(self, examples: int):
        self.examples = examples

    @abstractmethod
    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        """The loss at a step (counted from 0) on the examples with these indices, and scalars for the history."""

    def state_dict(self) -> dict:
        """State that changes from step to step. It is saved, resumed and rolled back together with the rest of the
        training state."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Restore a state from :meth:`state_dict`."""

    def facts(self) -> dict:
        """What the record says about the loss after the last step."""
        return {}
