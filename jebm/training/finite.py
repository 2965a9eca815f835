"""When a step must not be taken: one of its values is not finite, or training has diverged."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Divergence:
    """When a run counts as diverged although all its values are finite, and what is done then."""

    watched: str = "loss"
    """The loss, or one of the scalars of the history."""
    limit: float = math.inf
    """A value larger than this, in size, is a divergence; such a step is never skipped."""
    allowed: bool = False
    """Whether a run that diverges ends with the weights of its last good step instead of an error."""

    def shown_by(self, wrong: Mapping[str, float]) -> bool:
        """Whether the watched value is among the wrong ones although it is finite."""
        return math.isfinite(wrong.get(self.watched, math.nan))


def wrong_values(row: Mapping[str, torch.Tensor], limits: Mapping[str, float]) -> dict[str, float]:
    """The values of a step that are not finite, or that exceed, in size, the limit of their name."""
    values = torch.stack([value.float() for value in row.values()]).tolist()  # one transfer from the device
    named = dict(zip(row, values, strict=True))
    return {
        name: value
        for name, value in named.items()
        if not math.isfinite(value) or abs(value) > limits.get(name, math.inf)
    }
