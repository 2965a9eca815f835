"""Learning-rate and KL-weight schedules as pure functions of the step."""

import math
from collections.abc import Sequence

import torch

from jebm.config import Optimisation


def learning_rate(step: int, settings: Optimisation) -> float:
    """The learning rate of a step, counted from 0: linear warm-up, then the schedule down to its final fraction."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    span = max(settings.steps - settings.warmup_steps, 1)
    progress = min((step - settings.warmup_steps) / span, 1.0)
    shape = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
    }[settings.schedule]
    floor = settings.final_learning_rate if settings.schedule != "constant" else 1.0
    return settings.learning_rate * (floor + (1.0 - floor) * shape)


def kl_weights(step: int, steps: int, ramps: Sequence[Sequence[float]]) -> torch.Tensor:
    """The weight of each layer's KL at a step, (layers,): 0 before its ramp, 1 after it."""
    progress = step / steps
    weights = [
        1.0 if progress >= end else 0.0 if progress < start else (progress - start) / (end - start)
        for start, end in ramps
    ]
    return torch.tensor(weights)
