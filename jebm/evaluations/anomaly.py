"""Anomaly detection by the published protocol: AUPRC and AUROC averaged over the models of the last epochs."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from itertools import chain

import numpy as np
import torch

from jebm.config.types import Count, Reference
from jebm.errors import SettingError
from jebm.evaluations.base import Evaluation, Subject
from jebm.metrics.detection import detection_metrics
from jebm.metrics.likelihood import importance_weighted
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import Hierarchy, flatten, standard_normal_log_prob
from jebm.models.priors.base import Prior
from jebm.runtime.progress import Progress

MEASURES = ("auroc", "auprc")
Scores = dict[str, dict[str, np.ndarray]]
"""Set → score → (images,), nats, high for outliers."""
Measured = tuple[str, str, str]
"""A metric, a set of outliers and a score."""


class Anomaly(Evaluation):
    """AUROC and AUPRC of each score on each set of outliers, averaged over the snapshots of training.

    The value without a ``step`` is the average; those with a ``step`` belong to the snapshot after that training step.
    (Cui et al., ICCV 2023, average over the models of the last ten epochs; ``snapshots`` and ``snapshot_every`` of the
    training save them.) Without snapshots only the final model is measured. Outliers are the positive class. The scores
    are high for outliers and use K draws from q(z | x) per image:

    - ``log-joint``: minus the mean of the unnormalised log p(x, z) = log p(x | z) + f(z) + log p(z), in nats, in the
      space of z; this is the published score;
    - ``elbo`` and ``elbo+f``: minus the evidence lower bound, without and with f;
    - ``iw`` and ``iw+f``: minus the importance-weighted bound with K draws, without and with f, without log Z;
    - ``f``: minus the mean of f.

    Args:
        reference: split whose images are the normal class.
        draws: number K of draws per image.
    """

    def __init__(self, *, reference: Reference = "test", draws: Count = 20):
        self.reference, self.draws = reference, draws

    @torch.no_grad()
    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        if not subject.data.ood_sets:
            raise SettingError("dataset: the evaluation 'anomaly' needs an out-of-distribution set, the data have none")
        by_step: dict[Measured, dict[int, float]] = {}
        for step, hierarchy, prior in self._models(subject):
            scores = self._scores(subject, hierarchy, prior, step)
            for metric, value in self._measured(scores).items():
                by_step.setdefault(metric, {})[step] = value
        self._add(record, subject, by_step, {name: len(own["f"]) for name, own in scores.items()})
        return {
            f"score/{name}/{k}": torch.from_numpy(array) for name, own in scores.items() for k, array in own.items()
        }

    def _models(self, subject: Subject) -> Iterable[tuple[int, Hierarchy, Prior]]:
        """The snapshots, or the final model as step 0."""
        models = iter(subject.snapshots())
        first = next(models, (0, subject.hierarchy, subject.prior))
        return chain([first], models)

    def _measured(self, scores: Scores) -> dict[Measured, float]:
        """The metrics of one model."""
        normal = scores[self.reference]
        return {
            (measure, name, score): value
            for name, own in scores.items()
            if name != self.reference
            for score in own
            for measure, value in detection_metrics(normal[score], own[score]).items()
            if measure in MEASURES
        }

    def _add(
        self, record: MetricRecord, subject: Subject, values: dict[Measured, dict[int, float]], counts: dict[str, int]
    ) -> None:
        steps = list(next(iter(values.values())))
        protocol = record.protocol(
            f"anomaly-{self.draws}-{len(steps)}",
            {
                **subject.facts(self.reference),
                "draws": self.draws,
                "models": f"mean over the models after {', '.join(map(str, steps))} steps" if steps[0] else "the last",
                "positive": "outliers",
                "code": f"scikit-learn {version('scikit-learn')}",
            },
        )
        for (measure, name, score), by_step in values.items():
            n, about = counts[self.reference] + counts[name], {"set": name, "score": score}
            record.add(measure, float(np.mean(list(by_step.values()))), n, protocol, **about)
            for step, value in by_step.items():
                record.add(measure, value, n, protocol, step=step, **about)

    def _scores(self, subject: Subject, hierarchy: Hierarchy, prior: Prior, step: int) -> Scores:
        """The scores of one model. Each set has its own random number generator, so that all models are compared on the
        same noise."""
        model, rows = f"{subject.title}: model after {step} steps" if step else subject.title, {}
        for name in (self.reference, *subject.data.ood_sets):
            split = name if name == self.reference else f"ood/{name}"
            rng, progress = subject.rng(f"anomaly {split}"), Progress(f"{model}: {name}")
            batches, parts = subject.data.pixels(split).split(hierarchy.max_batch_size()), []
            for batch in batches:
                parts.append(self._batch_scores(hierarchy, prior, batch.to(subject.device), rng))
                progress("batches", len(parts), len(batches))
            rows[name] = {k: torch.cat([part[k] for part in parts]).cpu().numpy() for k in parts[0]}
        return rows

    def _batch_scores(
        self, hierarchy: Hierarchy, prior: Prior, x: torch.Tensor, rng: torch.Generator
    ) -> dict[str, torch.Tensor]:
        bounds, tilts, joints = [], [], []
        for _ in range(self.draws):
            posterior = hierarchy.infer(x, rng)
            eps, log_px = flatten(posterior.eps), hierarchy.decode(posterior.top).log_prob(x)
            tilts.append(prior.tilt_after(eps, posterior.top))
            bounds.append(log_px + standard_normal_log_prob(eps) - posterior.log_q.sum(1))
            joints.append(log_px + tilts[-1] + hierarchy.log_prob(posterior.top.z))
        bound, tilt, joint = (torch.stack(rows, 1).double() for rows in (bounds, tilts, joints))
        return {
            "log-joint": -joint.mean(1),
            "elbo": -bound.mean(1),
            "elbo+f": -(bound + tilt).mean(1),
            "iw": -importance_weighted(bound),
            "iw+f": -importance_weighted(bound + tilt),
            "f": -tilt.mean(1),
        }
