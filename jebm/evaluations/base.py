"""The interface of evaluations. A variant requests an evaluation by a block in ``evaluations``.

An evaluation takes its parameters by keyword. It adds values to a metric record, with a set, score, layer or step where
a metric has several values, and returns arrays for figures. Measured times are added to the timings of the record.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from jebm.data.dataset import Dataset, quantise
from jebm.features.base import FeatureSpace
from jebm.features.extraction import extract
from jebm.io.filenames import IMAGES
from jebm.metrics.frechet import frechet
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import Hierarchy, TopDown
from jebm.models.priors.base import Prior
from jebm.runtime.progress import Progress


@dataclass
class Subject:
    """Everything that an evaluation may use: the frozen backbone and prior on their device, the data, the feature
    space, random number generators and logging."""

    data: Dataset
    hierarchy: Hierarchy
    prior: Prior
    space: FeatureSpace
    """The feature space of FD."""
    rng: Callable[[str], torch.Generator]
    """Returns a random number generator for a purpose."""
    device: str
    title: str
    snapshots: Callable[[], Iterable[tuple[int, Hierarchy, Prior]]] = tuple
    """Yields (step, hierarchy, prior) of each saved snapshot, in order; each is loaded when it is needed."""
    _known: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    """Split → its features, once they have been computed."""

    def pixels(self, split: str) -> torch.Tensor:
        """A split of the data as floats in [−1, 1], on the device."""
        return self.data.pixels(split).to(self.device)

    def progress(self) -> Progress:
        return Progress(self.title)

    def facts(self, reference: str) -> dict:
        """Facts that belong to every protocol of a comparison with a split of the data."""
        return {
            "reference": reference,
            "reference_sha256": self.data.manifest["sha256"][IMAGES],
            "grey_levels": self.data.levels,
        }

    @torch.no_grad()
    def features(self, eps: torch.Tensor) -> np.ndarray:
        """Features of the quantised means of p(x | z) for flat ε, as used for FD."""
        return np.concatenate(
            [self._features(self.hierarchy.top_down_flat(e)) for e in eps.split(self.hierarchy.max_batch_size())]
        )

    def frechet(self, eps: torch.Tensor, reference: str) -> float:
        """FD between the images of flat ε and a split of the data."""
        return frechet(self.features(eps), self._held_out(reference))

    @torch.no_grad()
    def frechet_of(self, top: TopDown, reference: str) -> float:
        """FD between the images of a top-down pass and a split of the data."""
        return frechet(self._features(top), self._held_out(reference))

    def _features(self, top: TopDown) -> np.ndarray:
        images = quantise(self.hierarchy.decode(top).mean, self.data.levels)
        return extract(self.space, images, self.data.levels, self.device)

    def _held_out(self, split: str) -> np.ndarray:
        if split not in self._known:
            self._known[split] = extract(self.space, self.data.images(split), self.data.levels, self.device)
        return self._known[split]


class Evaluation(ABC):
    metrics: dict[str, tuple] = {}
    """Metric → the arguments of :class:`jebm.metrics.catalogue.Metric`, as literals. Metrics that several evaluations
    or other stages measure are declared in the catalogue."""

    @abstractmethod
    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        """Measure, and add the values to the record. Returns arrays for figures, by name."""
