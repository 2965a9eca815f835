"""The information in each layer of a backbone: its KL, its active units, and the accuracy of a linear probe."""

from __future__ import annotations

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jebm.config.types import Count, Positive, Reference
from jebm.evaluations.base import Evaluation, Subject
from jebm.metrics.records import MetricRecord


class Layers(Evaluation):
    """KL, active units and class information of each layer, z1 (bottom), z2, …

    Stored for figures are the KL of each image and layer, and the mean of z_L of each image over the draws, where L is
    the top layer.

    Args:
        reference: split that is measured; the probe is trained on the training split.
        draws: number of draws from q(ε | x) per image.
        active_variance: a unit is active if the variance over images of its posterior mean exceeds this, in units of
            its prior variance (Burda et al., 2016).
    """

    metrics = {
        "kl_smallest": ("smallest KL", 1, 2, "KL of the layer that uses least, nats per image"),
        "active_units": ("active units", 0, 1, "latent dimensions whose posterior mean varies over images"),
        "probe": ("probe", 1, 3, "test accuracy of a linear probe for the class on a layer's posterior mean"),
    }

    def __init__(self, *, reference: Reference = "test", draws: Count = 20, active_variance: Positive = 0.01):
        self.reference, self.draws, self.active_variance = reference, draws, active_variance

    @torch.no_grad()
    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        eps, z, kl = self._posterior(subject, self.reference)
        _, z_train, _ = self._posterior(subject, "train")
        n, facts = len(kl), {**subject.facts(self.reference), "draws": self.draws}
        protocol = record.protocol("layers", {**facts, "active_variance": self.active_variance})
        probe = record.protocol("probe", {**facts, "classifier": "logistic regression on standardised posterior means"})
        labels = {split: subject.data.labels(split).numpy() for split in ("train", self.reference)}
        for layer in range(subject.hierarchy.layers):
            name = f"z{layer + 1}"
            record.add("kl", kl[:, layer].mean(), n, protocol, layer=name)
            active = (self._signal(eps[layer]) > self.active_variance).sum()
            record.add("active_units", active, n, protocol, layer=name)
            fit = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
            fit.fit(z_train[layer].mean(0).cpu().numpy(), labels["train"])
            accuracy = fit.score(z[layer].mean(0).cpu().numpy(), labels[self.reference])
            record.add("probe", accuracy, n, probe, layer=name)
        record.add("kl_smallest", kl.mean(0).min(), n, protocol)
        record.add("kl_total", kl.sum(1).mean(), n, protocol)
        return {"kl": kl, "means/top": z[-1].mean(0)}

    def _posterior(self, subject: Subject, split: str) -> tuple[list, list, torch.Tensor]:
        """For each layer ε and z, (draws, images, dimensions), and the KL of each image and layer, (images, layers)."""
        x, rng = subject.pixels(split), subject.rng(f"posterior {split}")
        draws = [subject.hierarchy.infer(x, rng) for _ in range(self.draws)]
        layers = range(subject.hierarchy.layers)
        eps = [torch.stack([draw.eps[i].flatten(1) for draw in draws]) for i in layers]
        z = [torch.stack([draw.top.z[i].flatten(1) for draw in draws]) for i in layers]
        return eps, z, torch.stack([draw.kl for draw in draws]).mean(0)

    def _signal(self, eps: torch.Tensor) -> torch.Tensor:
        """Variance over images of the posterior mean, (dimensions,), corrected for the sampling noise of the draws."""
        return eps.mean(0).var(0) - eps.var(0).mean(0) / self.draws
