"""Ablation of the terms of an energy after training: the density without one term, or with one term only."""

from __future__ import annotations

import torch

from jebm.config.types import Count, Reference
from jebm.evaluations.base import Evaluation, Subject
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import flatten
from jebm.sampling.partition import effective_fraction, systematic_resampling


class Terms(Evaluation):
    """FD of importance-resampled draws without each term, and with each term only, under the name of the term.

    All densities use one pool of draws from the base of the prior, so that differences are not due to noise. ``none``
    is the complete density. Removing a term after training differs from training without it, for which there are
    variants.

    Args:
        reference: split of the data that FD compares with.
        pool: number of draws from the base of the prior to choose from.
        count: number of draws that are chosen for each FD.
    """

    metrics = {
        "fd_without": ("FD without", -1, 2, "FD of the density when one term of f is left out after training"),
        "fd_with_only": (
            "FD with only",
            -1,
            2,
            "FD of the density when all other terms of f are left out after training",
        ),
        "ess_without": ("ESS without", 0, 3, "effective fraction of the importance weights behind FD without"),
        "term_gap": (
            "gap of the term",
            0,
            2,
            "mean of f_i on posterior draws less its mean on the Gaussian prior, nats",
        ),
    }

    def __init__(self, *, reference: Reference = "test", pool: Count = 50_000, count: Count = 8_000):
        self.reference, self.pool, self.count = reference, pool, count

    @torch.no_grad()
    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        energy = subject.prior.energy
        names = [f"z{name}" for name in energy.nets]
        eps = subject.prior.base.sample(self.pool, subject.rng("pool"))
        values = self._terms(subject, eps)
        facts = {
            **subject.facts(self.reference),
            "pool": self.pool,
            "count": self.count,
            "features": subject.space.about,
        }
        protocol = record.protocol("fd-terms", facts)
        total = values.sum(1)
        progress = subject.progress()
        for position, name in enumerate(["none", *names]):
            left = total if name == "none" else total - values[:, position - 1]
            without = self._fd(subject, eps, left, f"without {name}")
            record.add("fd_without", without, self.count, protocol, layer=name)
            record.add("ess_without", effective_fraction(left), self.pool, protocol, layer=name)
            if name != "none" and len(names) > 1:
                alone = self._fd(subject, eps, values[:, position - 1], f"only {name}")
                record.add("fd_with_only", alone, self.count, protocol, layer=name)
            progress("terms", position + 1, len(names) + 1)
        self._add_gaps(subject, values, names, record)
        return {}

    def _terms(self, subject: Subject, eps: torch.Tensor) -> torch.Tensor:
        """The terms of f at flat ε, (count, terms), nats."""
        batches = [subject.prior.energy.terms(subject.hierarchy.top_down_flat(batch)) for batch in eps.split(10_000)]
        return torch.cat(batches)

    def _fd(self, subject: Subject, eps: torch.Tensor, log_weights: torch.Tensor, purpose: str) -> float:
        return subject.frechet(
            systematic_resampling(eps, log_weights, self.count, subject.rng(purpose)), self.reference
        )

    def _add_gaps(self, subject: Subject, prior_values: torch.Tensor, names: list[str], record: MetricRecord) -> None:
        x = subject.pixels(self.reference)
        posterior = subject.hierarchy.infer(x, subject.rng("posterior"))
        gaps = self._terms(subject, flatten(posterior.eps)).mean(0) - prior_values.mean(0)
        protocol = record.protocol("term-gap", {**subject.facts(self.reference), "pool": self.pool})
        for name, gap in zip(names, gaps, strict=True):
            record.add("term_gap", gap, len(x), protocol, layer=name)
