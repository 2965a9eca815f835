"""Outlier detection by scores with and without the tilt, per layer, and by simple baselines, with confidence intervals
over images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version

import numpy as np
import torch

from jebm.config.types import Count, Reference
from jebm.errors import SettingError
from jebm.evaluations.base import Evaluation, Subject
from jebm.features.extraction import extract
from jebm.metrics.baselines import Forest, Mahalanobis
from jebm.metrics.detection import detection_metrics, interval, outlier_scores, resampled
from jebm.metrics.likelihood import log_weights
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import Hierarchy
from jebm.models.priors.base import Prior
from jebm.models.priors.ebm import JointPrior

Scores = dict[str, np.ndarray]
"""Score → values, (images,), high for outliers."""


class Detection(Evaluation):
    """AUROC, AUPRC and FPR80 of every score on every out-of-distribution set of the data.

    The scores are those of :func:`outlier_scores`; for each layer i, ``kl_i``, the KL of q from the Gaussian prior, and
    ``f_i``, minus the energy term; and the baselines ``reconstruction``, ``mahalanobis`` and ``isolation-forest``.
    AUROC and AUPRC have 95 % confidence intervals over images. ``auroc_gain`` is the AUROC of ``elbo+f`` minus that of
    ``elbo``, with the interval of this difference on the same bootstrap resamples; ``auprc_gain`` is defined in the
    same way.

    Args:
        reference: split whose images are the normal class.
        draws: number of draws from q(ε | x) per image.
        resamples: number of bootstrap resamples of the images.
        trees: number of trees of the isolation forest.
    """

    def __init__(
        self, *, reference: Reference = "test", draws: Count = 20, resamples: Count = 1000, trees: Count = 100
    ):
        self.reference, self.draws, self.resamples, self.trees = reference, draws, resamples, trees

    @torch.no_grad()
    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        if not subject.data.ood_sets:
            raise SettingError(
                "dataset: the evaluation 'detection' needs an out-of-distribution set, the data have none"
            )
        baselines, progress = self._baselines(subject), subject.progress()
        splits = {self.reference: self.reference} | {name: f"ood/{name}" for name in subject.data.ood_sets}
        scores: dict[str, Scores] = {}
        for done, (name, split) in enumerate(splits.items(), 1):
            own = self._model_scores(subject, split)
            scores[name] = own | {key: score(split) for key, score in baselines.items()}
            progress("scored sets", done, len(splits))
        protocol = record.protocol(f"detection-{self.draws}", self._facts(subject))
        normal = scores[self.reference]
        for done, name in enumerate(subject.data.ood_sets, 1):
            self._measure(record, protocol, name, normal, scores[name], subject.rng(f"resample {name}"))
            progress("measured sets", done, len(subject.data.ood_sets))
        return {
            f"score/{name}/{key}": torch.from_numpy(values)
            for name, by_key in scores.items()
            for key, values in by_key.items()
        }

    def _facts(self, subject: Subject) -> dict:
        return {
            **subject.facts(self.reference),
            "draws": self.draws,
            "code": f"scikit-learn {version('scikit-learn')}",
            "positive": "outliers",
            "mahalanobis": f"nearest class of the training split, tied covariance, {subject.space.about}",
            "isolation_forest": f"{self.trees} trees, fitted on the training split",
            "interval": f"95 %, percentiles of {self.resamples} paired bootstrap resamples of the images",
        }

    def _model_scores(self, subject: Subject, split: str) -> Scores:
        """The scores that depend on the backbone or the prior, averaged over draws from q."""
        x, hierarchy, prior = subject.data.pixels(split), subject.hierarchy, subject.prior
        weights = log_weights(hierarchy, prior, x, self.draws, subject.rng(f"bound {split}"), redraw=True)
        scores, rng = outlier_scores(weights), subject.rng(f"layers {split}")
        batches = [batch.to(subject.device) for batch in x.split(hierarchy.max_batch_size())]
        parts = [self._draw_scores(hierarchy, prior, batch, rng) for batch in batches]
        scores |= {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {name: values.double().cpu().numpy() for name, values in scores.items()}

    def _draw_scores(
        self, hierarchy: Hierarchy, prior: Prior, x: torch.Tensor, rng: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Scores per layer and of the reconstruction, (images,), averaged over draws."""
        rows = []
        for _ in range(self.draws):
            posterior = hierarchy.infer(x, rng)
            error = (hierarchy.decode(posterior.top).mean - x).flatten(1).square().sum(1)
            row = {"reconstruction": error} | _columns("kl", range(1, hierarchy.layers + 1), posterior.kl)
            if isinstance(prior, JointPrior):
                row |= _columns("f", prior.energy.nets, -prior.energy.terms(posterior.top))
            rows.append(row)
        return {name: torch.stack([row[name] for row in rows]).mean(0) for name in rows[0]}

    def _baselines(self, subject: Subject) -> dict[str, Callable[[str], np.ndarray]]:
        """Name → function that scores a split, fitted on the training split."""
        data = subject.data

        def features(split: str) -> np.ndarray:
            return extract(subject.space, data.images(split), data.levels, subject.device)

        def flat(split: str) -> np.ndarray:
            return data.pixels(split).flatten(1).double().numpy()

        rng = subject.rng("isolation forest")
        seed = int(torch.randint(2**31 - 1, (), generator=rng, device=rng.device))
        forest = Forest(flat("train"), self.trees, seed)
        distance = Mahalanobis(features("train"), data.labels("train").numpy())
        return {
            "mahalanobis": lambda split: distance(features(split)),
            "isolation-forest": lambda split: forest(flat(split)),
        }

    def _measure(
        self, record: MetricRecord, protocol: str, name: str, normal: Scores, outliers: Scores, rng: torch.Generator
    ) -> None:
        """Add the metrics of one set of outliers, with their intervals."""
        n = len(normal["elbo"]) + len(outliers["elbo"])
        measured = {score: detection_metrics(normal[score], outliers[score]) for score in normal}
        draws = resampled(normal, outliers, self.resamples, rng)
        for score, metrics in measured.items():
            for metric, value in metrics.items():
                ends = interval(draws[metric][score]) if metric in draws else None
                record.add(metric, value, n, protocol, ends, set=name, score=score)
        for metric, values in draws.items():
            gain = measured["elbo+f"][metric] - measured["elbo"][metric]
            ends = interval(values["elbo+f"] - values["elbo"])
            record.add(f"{metric}_gain", gain, n, protocol, ends, set=name)


def _columns(name: str, keys: Iterable, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """A matrix (images, keys) as ``name_key`` → column."""
    return {f"{name}_{key}": column for key, column in zip(keys, values.T, strict=True)}
