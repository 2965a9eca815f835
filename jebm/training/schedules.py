"""Schedules of learning rates and KL weights, as pure functions of the step."""

import math
from collections.abc import Sequence

import torch

from jebm.config.training import Optimisation


def learning_rate(step: int, settings: Optimisation, peak: float | None = None) -> float:
    """The learning rate of a step (counted from 0): linear warm-up to the peak, then the schedule down to its final
    fraction.

    Args:
        peak: learning rate of a parameter group; ``settings.learning_rate`` if None.
    """
    peak = settings.learning_rate if peak is None else peak
    if step < settings.warmup_steps:
        return peak * (step + 1) / settings.warmup_steps
    span = max(settings.steps - settings.warmup_steps, 1)
    progress = min((step - settings.warmup_steps) / span, 1.0)
    shape = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
    }[settings.schedule]
    floor = settings.final_learning_rate if settings.schedule != "constant" else 1.0
    return peak * (floor + (1.0 - floor) * shape)


def layer_ramps(entries: list[list[float]], layers: int) -> list[list[float]]:
    """One ramp per layer, bottom first; a single entry applies to all layers."""
    return entries * (layers if len(entries) == 1 else 1)


def kl_weights(step: int, steps: int, ramps: Sequence[Sequence[float]], floor: float = 0.0) -> torch.Tensor:
    """The KL weight of each layer at a step, (layers,): 0 before its ramp, 1 after it, and never below ``floor``."""
    progress = step / steps
    weights = [
        1.0 if progress >= end else 0.0 if progress < start else (progress - start) / (end - start)
        for start, end in ramps
    ]
    return torch.tensor([max(weight, floor) for weight in weights])
