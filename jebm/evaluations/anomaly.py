"""Anomaly detection by the published protocol: AUPRC and AUROC averaged over the models of the last epochs."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch

from jebm.config.types import Count, Natural, Positive, Reference
from jebm.errors import SettingError
from jebm.evaluations.base import Evaluation, Subject
from jebm.metrics.detection import detection_metrics, interval, resampled
from jebm.metrics.likelihood import importance_weighted
from jebm.metrics.outlier_share import chance_and_minimum, precision_recall_areas
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import Hierarchy, flatten, standard_normal_log_prob
from jebm.models.priors.base import Prior
from jebm.models.priors.ebm import JointPrior
from jebm.runtime.progress import Progress

MEASURES = ("auroc", "auprc")
Scores = dict[str, dict[str, np.ndarray]]
"""Set → score → (images,), nats, high for outliers."""
Measured = tuple[str, str, str]
"""A metric, a set of outliers and a score."""


class Draws(NamedTuple):
    """K draws from q(z | x) for each image of a set, with all that depends on the hierarchy alone; nats."""

    eps: torch.Tensor
    """(draws, images, dimensions): flat ε."""
    log_px: torch.Tensor
    """(draws, images): log p(x | z)."""
    log_pz: torch.Tensor
    """(draws, images): log p(z) of the Gaussian hierarchy, in the space of z."""
    log_p: torch.Tensor
    """(draws, images): log N(ε; 0, I)."""
    log_q: torch.Tensor
    """(draws, images): log q(ε | x)."""
    error: torch.Tensor
    """(draws, images): squared error of the reconstruction, summed over pixels."""
    kl: torch.Tensor
    """(draws, images, layers): KL of each layer from the Gaussian prior."""


class Anomaly(Evaluation):
    """AUROC and AUPRC of each score on each set of outliers, averaged over the snapshots of training.

    The value without a ``step`` is the average; those with a ``step`` belong to the snapshot after that training step.
    (Cui et al., ICCV 2023, average over the models of the last ten epochs; ``snapshots`` and ``snapshot_interval`` of
    the training save them.) Without snapshots only the final model is measured. Snapshots of a prior on one hierarchy
    are measured on the same draws. Outliers are the positive class. The scores are high for outliers and use K draws
    from q(z | x) per image:

    - ``log-joint``: minus the mean of the unnormalised log p(x, z) = log p(x | z) + f(z) + log p(z), in nats, in the
      space of z; this is the published score;
    - ``elbo`` and ``elbo+f``: minus the evidence lower bound, without and with f;
    - ``iw`` and ``iw+f``: minus the importance-weighted bound with K draws, without and with f, without log Z;
    - ``f`` and, for each layer with an energy, ``f_i``: minus the mean of f and of its terms;
    - ``log-prior``: minus the mean of the unnormalised log p(ε) = f(z) + log N(ε; 0, I);
    - ``kl+f``: the KL of q from the unnormalised prior, which is ``elbo+f`` without log p(x | z);
    - ``kl+base``: the same without the energy: the KL of q from the density that f tilts;
    - ``kl_i``: the KL of layer i from the Gaussian prior;
    - ``reconstruction``: the mean squared error of the reconstruction.

    Where the energy tilts a mixture, f in this list is the whole tilt of N(0, I), the mixture included; only ``f_i`` is
    the energy alone.

    Args:
        reference: split whose images are the normal class.
        draws: number K of draws per image.
        rare: weight of each outlier in ``auprc_rare``.
        resamples: number of bootstrap resamples of the images behind the intervals of ``auprc_over_elbo``, which is
            measured on the last model; 0 leaves it out.
    """

    metrics = {
        "auprc_trapezoid": ("AUPRC, trapezoid", 1, 3, "area under the precision–recall curve by the trapezoid rule"),
        "auprc_rare": ("AUPRC, rare", 1, 3, "average precision with each outlier counted as the protocol says"),
        "auprc_chance": ("AUPRC of chance", 0, 3, "average precision of random scores: the share of outliers"),
        "auprc_minimum": ("smallest AUPRC", 0, 3, "average precision of the worst ranking at this share of outliers"),
        "auprc_over_elbo": ("AUPRC over ELBO", 1, 3, "AUPRC of a score less that of elbo, last model, same images"),
        # Of stored scores; jebm.report.differences measures them.
        "auroc_difference": ("AUROC difference", 1, 3, "AUROC less that of another variant, last models, same images"),
        "auprc_difference": ("AUPRC difference", 1, 3, "AUPRC less that of another variant, last models, same images"),
    }

    def __init__(
        self, *, reference: Reference = "test", draws: Count = 20, rare: Positive = 0.2, resamples: Natural = 200
    ):
        self.reference, self.draws, self.rare, self.resamples = reference, draws, rare, resamples

    @torch.no_grad()
    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        if not subject.data.ood_sets:
            raise SettingError("dataset: the evaluation 'anomaly' needs an out-of-distribution set, the data have none")
        by_step: dict[Measured, dict[int, float]] = {}
        drawn_from, draws = None, {}
        for step, hierarchy, prior in self._models(subject):
            if drawn_from is None or not _equal(hierarchy, drawn_from):
                drawn_from, draws = hierarchy, self._draws(subject, hierarchy, step)
            scores = {name: _scores(hierarchy, prior, own) for name, own in draws.items()}
            for metric, value in self._measured(scores).items():
                by_step.setdefault(metric, {})[step] = value
        self._add(record, subject, by_step, scores)
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
        normal, found = scores[self.reference], {}
        for name, own in scores.items():
            for score in own if name != self.reference else ():
                areas = detection_metrics(normal[score], own[score])
                areas = {measure: areas[measure] for measure in MEASURES}
                areas |= precision_recall_areas(normal[score], own[score], self.rare)
                found |= {(measure, name, score): value for measure, value in areas.items()}
        return found

    def _add(
        self, record: MetricRecord, subject: Subject, values: dict[Measured, dict[int, float]], scores: Scores
    ) -> None:
        steps, normal = list(next(iter(values.values()))), scores[self.reference]
        protocol = record.protocol(
            f"anomaly-{self.draws}-{len(steps)}",
            {
                **subject.facts(self.reference),
                "draws": self.draws,
                "models": f"mean over {len(steps)} snapshots of training" if steps[0] else "the last",
                "positive": "outliers",
                "rare": f"each outlier counts {self.rare:g} times in auprc_rare",
                "interval": f"95 %, percentiles of {self.resamples} paired bootstrap resamples of the images",
                "code": f"scikit-learn {version('scikit-learn')}",
            },
        )
        sizes = {name: (len(normal["f"]), len(own["f"])) for name, own in scores.items() if name != self.reference}
        for (measure, name, score), by_step in values.items():
            n, about = sum(sizes[name]), {"set": name, "score": score}
            record.add(measure, float(np.mean(list(by_step.values()))), n, protocol, **about)
            for step, value in by_step.items():
                record.add(measure, value, n, protocol, step=step, **about)
        for name, counts in sizes.items():
            for measure, value in chance_and_minimum(*counts).items():
                record.add(measure, value, sum(counts), protocol, set=name)
            if not self.resamples:
                continue
            last = {score: list(values["auprc", name, score].values())[-1] for score in normal}
            areas = resampled(normal, scores[name], self.resamples, subject.rng(f"resample {name}"))["auprc"]
            for score in (score for score in normal if score != "elbo"):
                ends = interval(areas[score] - areas["elbo"])
                about = {"set": name, "score": score}
                record.add("auprc_over_elbo", last[score] - last["elbo"], sum(counts), protocol, ends, **about)

    def _draws(self, subject: Subject, hierarchy: Hierarchy, step: int) -> dict[str, Draws]:
        """Set → draws. Each set has its own random number generator, so that all models are compared on the same
        noise."""
        model, found = f"{subject.title}: model after {step} steps" if step else subject.title, {}
        for name in (self.reference, *subject.data.ood_sets):
            split = name if name == self.reference else f"ood/{name}"
            rng, progress = subject.rng(f"anomaly {split}"), Progress(f"{model}: {name}")
            batches, parts = subject.data.pixels(split).split(hierarchy.max_batch_size()), []
            for batch in batches:
                rows = [_draw(hierarchy, batch.to(subject.device), rng) for _ in range(self.draws)]
                parts.append([torch.stack(kind) for kind in zip(*rows, strict=True)])
                progress("batches", len(parts), len(batches))
            found[name] = Draws(*(torch.cat(kind, 1) for kind in zip(*parts, strict=True)))
        return found


def _equal(first: Hierarchy, second: Hierarchy) -> bool:
    """Whether two hierarchies of one architecture have the same weights."""
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


def _draw(hierarchy: Hierarchy, x: torch.Tensor, rng: torch.Generator) -> Draws:
    """One draw for each image of a batch; the tensors lack the dimension ``draws``."""
    posterior = hierarchy.infer(x, rng)
    eps, pixels = flatten(posterior.eps), hierarchy.decode(posterior.top)
    return Draws(
        eps,
        pixels.log_prob(x),
        hierarchy.log_prob(posterior.top.z),
        standard_normal_log_prob(eps),
        posterior.log_q.sum(1),
        (pixels.mean - x).flatten(1).square().sum(1),
        posterior.kl,
    )


def _scores(hierarchy: Hierarchy, prior: Prior, draws: Draws) -> dict[str, np.ndarray]:
    """Score → (images,) of a prior on draws of its hierarchy."""
    tilts, terms = zip(*(_tilt(hierarchy, prior, eps) for eps in draws.eps), strict=True)
    tilt, bound = torch.stack(tilts).double(), (draws.log_px + draws.log_p - draws.log_q).double()
    base = tilt - sum(torch.stack([row[layer] for row in terms]).double() for layer in terms[0])
    layers = range(1, hierarchy.layers + 1)
    found = {
        "log-joint": -(draws.log_px + draws.log_pz + tilt),
        "elbo": -bound,
        "elbo+f": -(bound + tilt),
        "f": -tilt,
        "log-prior": -(tilt + draws.log_p),
        "kl+f": draws.log_q - draws.log_p - tilt,
        "kl+base": draws.log_q - draws.log_p - base,
        "reconstruction": draws.error,
        **{f"kl_{layer}": draws.kl[..., layer - 1] for layer in layers},
        **{f"f_{layer}": -torch.stack([row[layer] for row in terms]) for layer in terms[0]},
    }
    means = {name: values.double().mean(0) for name, values in found.items()}
    means |= {"iw": -importance_weighted(bound.T), "iw+f": -importance_weighted((bound + tilt).T)}
    return {name: values.cpu().numpy() for name, values in means.items()}


def _tilt(hierarchy: Hierarchy, prior: Prior, eps: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The tilt of one draw for each image, (images,), and layer → term of its energy."""
    rows = []
    for part in eps.split(hierarchy.max_batch_size()):
        top = hierarchy.top_down_flat(part)
        terms = prior.energy.terms(top).T if isinstance(prior, JointPrior) else ()
        rows.append((prior.tilt_after(part, top), *terms))
    tilt, *terms = (torch.cat(kind) for kind in zip(*rows, strict=True))
    return tilt, dict(zip(prior.energy.nets, terms, strict=True)) if terms else {}
