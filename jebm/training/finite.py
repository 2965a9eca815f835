"""Whether every step's loss, scalars and gradient norm are finite, told without making a GPU wait at each step."""

import math
from typing import Any, NamedTuple

import torch


class Look(NamedTuple):
    """What one step left to be looked at."""

    step: int
    """Steps done before it."""
    names: list[str]
    values: torch.Tensor
    wrong: torch.Tensor
    """(names,) bool: not finite, or beyond the limit."""
    before: Any
    """Whatever leads back to before the step."""

    def complaint(self) -> str:
        values, wrong = self.values.tolist(), self.wrong.tolist()
        return ", ".join(f"{name} is {values[i]:.4g}" for i, name in enumerate(self.names) if wrong[i])


class Finiteness:
    """Collects looks, and asks the device about all of them at once.

    Args:
        watched, limit: a value of this name larger than the limit, in size, is wrong even while it is finite.
    """

    def __init__(self, watched: str, limit: float = math.inf):
        self.watched, self.limit = watched, limit
        self.looks: list[Look] = []
        self.halted: torch.Tensor | None = None
        """Scalar bool on the device: whether any step so far went wrong. The optimiser is masked by it, so that what
        is in memory stays the last good state however late somebody asks."""

    def note(self, step: int, row: dict[str, torch.Tensor], before: Any) -> None:
        """Take a step's values in, without waiting for them."""
        values = torch.stack([value.float() for value in row.values()])
        wrong = ~torch.isfinite(values)
        watched = list(row).index(self.watched)
        wrong[watched] |= values[watched].abs() > self.limit
        self.halted = wrong.any() if self.halted is None else self.halted | wrong.any()
        self.looks.append(Look(step, list(row), values, wrong, before))

    def first_wrong(self) -> Look | None:
        """The first look since the last call that shows something wrong; waits for the device."""
        looks, self.looks = self.looks, []
        if not looks:
            return None
        wrong = torch.stack([look.wrong.any() for look in looks]).tolist()
        return looks[wrong.index(True)] if True in wrong else None
