"""What a loss is: a function of the step and of a batch, with the state that it keeps from step to step."""

from abc import ABC, abstractmethod

import torch

Scalars = dict[str, torch.Tensor]


class Loss(ABC):
    """The objective of a training: a mean over the examples of a batch.

    Args:
        examples: number of training examples, of whose indices batches are made.
    """

    def __init__(self, examples: int):
        self.examples = examples

    @abstractmethod
    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        """The loss to descend at a step, counted from 0, on the examples with these indices; and scalars for the
        history."""

    def state_dict(self) -> dict:
        """What the loss keeps from step to step: saved, resumed and rolled back with the rest of the run."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what :meth:`state_dict` returned."""

    def facts(self) -> dict:
        """What the record says of the loss after the last step."""
        return {}
