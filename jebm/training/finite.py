"""Detection of steps whose values are not finite, and of diverged training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Divergence:
    """A criterion by which training counts as diverged although all values are finite, and whether that is an error."""

    watched: str = "loss"
    """Name of the watched value: ``loss``, or one of the scalars of the history."""
    limit: float = math.inf
    """Training has diverged if the absolute watched value exceeds this limit. Such a step is never skipped."""
    allowed: bool = False
    """If true, diverged training ends with the weights of its last good step; otherwise it is an error."""

    def shown_by(self, wrong: Mapping[str, float]) -> bool:
        """Whether the watched value is finite but beyond its limit."""
        return math.isfinite(wrong.get(self.watched, math.nan))


def wrong_values(
    row: Mapping[str, torch.Tensor],
    limits: Mapping[str, float],
    lower_limits: Mapping[str, float] = {},
) -> dict[str, float]:
    """The values of a step that are not finite, whose absolute value exceeds the limit of that name, or that are below
    the lower limit of that name."""
    values = torch.stack([value.float() for value in row.values()]).tolist()  # one transfer from the device
    named = dict(zip(row, values, strict=True))
    return {
        name: value
        for name, value in named.items()
        if not math.isfinite(value)
        or abs(value) > limits.get(name, math.inf)
        or value < lower_limits.get(name, -math.inf)
    }
