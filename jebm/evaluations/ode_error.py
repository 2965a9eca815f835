"""The error of the density of a diffusion prior, which an ODE gives."""

from __future__ import annotations

import torch

from jebm.config.types import Count, Reference
from jebm.evaluations.base import Evaluation, Subject
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import flatten


class OdeError(Evaluation):
    """By how much log p of posterior draws changes if the ODE of a diffusion prior is solved in twice as many steps.

    The bound on log p(x) is a bound of the density that the exact ODE defines, up to this error.

    Args:
        reference: split whose images are inferred, with one draw each.
        count: number of images, the first ones of the split.
    """

    needs = "denoising"
    """The trait that a prior must have for this evaluation."""
    metrics = {
        "ode_error": ("ODE error", -1, 4, "largest change of log p of a draw at twice as many steps, nats"),
        "ode_bias": ("ODE bias", 0, 4, "mean change of log p at twice as many steps, nats"),
    }

    def __init__(self, *, reference: Reference = "test", count: Count = 500):
        self.reference, self.count = reference, count

    @torch.no_grad()
    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        x, prior = subject.pixels(self.reference)[: self.count], subject.prior
        eps = flatten(subject.hierarchy.infer(x, subject.rng("posterior")).eps)
        change = prior.tilt_in_steps(eps, 2 * prior.ode_steps) - prior.tilt(eps)
        protocol = record.protocol("ode-error", {**subject.facts(self.reference), "steps": prior.ode_steps})
        record.add("ode_error", change.abs().max(), len(eps), protocol)
        record.add("ode_bias", change.double().mean(), len(eps), protocol)
        return {"change": change}
