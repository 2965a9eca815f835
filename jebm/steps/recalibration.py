"""Recalibration of batch normalisation, as the parameters ask for it."""

import torch

from jebm.config.training import Recalibration
from jebm.errors import DivergedError
from jebm.models.backbones.base import Hierarchy
from jebm.models.batch_norm import recalibrate
from jebm.runtime.progress import log


def recalibrate_if_asked(settings: Recalibration | None, hierarchy: Hierarchy, rng: torch.Generator) -> dict:
    """Recompute a backbone's batch-norm statistics from draws of the prior if the settings ask for it. Returns facts
    for the record.

    Raises:
        DivergedError: the new statistics are not finite.
    """
    if settings is None:
        return {}
    recalibrate(hierarchy, settings.passes, settings.batch_size, settings.temperature, rng)
    if not all(torch.isfinite(buffer).all() for buffer in hierarchy.buffers()):
        raise DivergedError(
            f"batch-norm statistics are not finite after recalibration with {settings.passes} passes at temperature "
            f"{settings.temperature}; set recalibrate to null, or another temperature"
        )
    log(f"batch norm recalibrated: {settings.passes} passes of {settings.batch_size} at T = {settings.temperature}")
    return {"recalibrated": settings.model_dump(mode="json")}
