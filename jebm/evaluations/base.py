"""The interface of evaluations: what a variant asks to have measured of its prior, by a block of its own.

An evaluation takes its parameters by keyword, writes values into a metric record (with a set, a score, a layer or a
step where a metric has several values) and what figures need into arrays. What the clock measures goes into the
record's timings.
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
    """What is evaluated, frozen and on its device, and what every evaluation needs besides."""

    data: Dataset
    hierarchy: Hierarchy
    prior: Prior
    space: FeatureSpace
    """What FD looks through."""
    stream: Callable[[str], torch.Generator]
    """A random stream for a purpose."""
    device: str
    title: str
    snapshots: Callable[[], Iterable[tuple[int, Hierarchy, Prior]]] = tuple
    """(step, hierarchy, prior) of each model of the end of training that was kept, in order; loaded when asked for."""
    _known: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    """Features of the splits that were compared with."""

    def pixels(self, split: str) -> torch.Tensor:
        """A split of the data as floats in [−1, 1], on the device."""
        return self.data.pixels(split).to(self.device)

    def progress(self) -> Progress:
        return Progress(self.title)

    def facts(self, reference: str) -> dict:
        """What every protocol that compares with a split of the data must say."""
        return {
            "reference": reference,
            "reference_sha256": self.data.manifest["sha256"][IMAGES],
            "grey_levels": self.data.levels,
        }

    @torch.no_grad()
    def features(self, eps: torch.Tensor) -> np.ndarray:
        """Features of the quantised means of p(x | z) for flat ε, as FD sees them."""
        return np.concatenate(
            [self._features(self.hierarchy.top_down_flat(e)) for e in eps.split(self.hierarchy.rows_at_once())]
        )

    def frechet(self, eps: torch.Tensor, reference: str) -> float:
        """FD of the images of flat ε to a split of the data."""
        return frechet(self.features(eps), self._held_out(reference))

    @torch.no_grad()
    def frechet_of(self, top: TopDown, reference: str) -> float:
        """FD of the images of a top-down pass to a split of the data."""
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
    """Metric → how it is printed: the arguments of :class:`jebm.metrics.catalogue.Metric`, as literals. Metrics that
    several evaluations or stages measure stand in the catalogue."""

    @abstractmethod
    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        """Measure; returns arrays for figures, by name."""
