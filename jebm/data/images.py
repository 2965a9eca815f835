"""Images of any source, cropped and resized to squares of one size, and out-of-distribution sets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import UnidentifiedImageError

from jebm.config.components import build
from jebm.config.types import (
    Background,
    Bits,
    Count,
    Digit,
    Fraction,
    GeneratedSets,
    ImageMode,
    Natural,
    Resample,
    SourceBlock,
    SourceBlocks,
)
from jebm.data.assets import AssetFiles
from jebm.data.image_conversion import Conversion, refuse_wide
from jebm.data.sources.base import DAMAGE_ERRORS, Source, SourceSplit, concatenate
from jebm.data.stream import Chunk, StreamedSplit
from jebm.errors import JebmError, SettingError
from jebm.runtime.progress import log
from jebm.runtime.random import make_rng

CHUNK = 256
"""Number of images in memory at a time."""
MAX_LISTED = 20
"""Number of unreadable images that an error message lists; the manifest lists all."""
TRAIN_SHARE = 0.8
"""Share of the normal images that is used for training in the protocol of anomaly detection (Zenati et al., 2018)."""


class Images:
    """Train / validation / test of a source, and out-of-distribution sets. Memory holds one chunk of images at a time.

    The test and validation splits are those of the source; if the source lacks one, it is drawn from the training
    images. A split that is used completely has the order of the source, and a split that is drawn has the order of the
    draw.

    Args:
        source: the source of the images, see ``jebm/data/sources``.
        size: height and width in pixels.
        crop: side of the central square that is cut out before resizing, in pixels of the source; null: the largest.
        mode: channels of the converted images.
        resample: filter for resizing.
        upscale: whether images smaller than ``size`` are enlarged; otherwise they are an error.
        background: colour behind transparent pixels.
        bits: bits per stored channel; 5 bits are 32 levels.
        max_unreadable_fraction: largest fraction of unreadable images that are skipped and listed; more are an error.
        train_count: largest number of training images; null: all.
        validation_count: number of validation images; null: the complete validation split of the source.
        test_count: number of test images; null: the complete test split of the source. A source without a test split
            needs a number.
        split_seed: seed of all draws.
        held_out_class: a class that is left out of all splits; its images are the additional set ``held-out``. The
            splits of the source are pooled, and 80 % of the other images are used for training and validation, 20 % for
            the test split: the protocol of anomaly detection on MNIST of Zenati et al. (2018).
        ood_sets: generated out-of-distribution sets: ``uniform`` noise in every channel of every pixel, or ``constant``
            images of one random colour.
        outliers: label → another source, whose test images (all images, if it has no test split) are the
            out-of-distribution set of that label. They are converted like the images of ``source``, but the largest
            central square is cut out, and enlarged if necessary.
        ood_count: number of images in each generated set, and largest number of images of each outlier source.
    """

    def __init__(
        self,
        *,
        source: SourceBlock,
        size: Count,
        crop: Count | None = None,
        mode: ImageMode = "source",
        resample: Resample = "bilinear",
        upscale: bool = False,
        background: Background = "white",
        bits: Bits = 8,
        max_unreadable_fraction: Fraction = 0.0,
        train_count: Count | None = None,
        validation_count: Count | None = 1000,
        test_count: Count | None = None,
        split_seed: Natural = 0,
        held_out_class: Digit | None = None,
        ood_sets: GeneratedSets = [],  # noqa: B006
        outliers: SourceBlocks = {},  # noqa: B006
        ood_count: Count = 10_000,
    ):
        self.source, self.outliers = build("source", source), {k: build("source", b) for k, b in outliers.items()}
        channels = {"source": self.source.channels, "rgb": 3, "grey": 1}[mode]
        self.convert = Conversion(channels, size, crop, resample, upscale, background, bits)
        # ``crop`` was chosen for the shape of the source's images; outliers may have other shapes.
        self.convert_outlier = Conversion(channels, size, None, resample, True, background, bits)
        self.max_unreadable_fraction = max_unreadable_fraction
        self.train_count, self.validation_count, self.test_count = train_count, validation_count, test_count
        self.split_seed, self.held_out_class = split_seed, held_out_class
        self.ood_sets, self.ood_count = ood_sets, ood_count
        self.skipped: dict[str, str] = {}
        self.planned = 0

    def prepare(self, files: AssetFiles, scratch: Path) -> tuple[dict[str, StreamedSplit], int, dict]:
        """The splits, the number of levels, and facts for the manifest.

        Images are read when the splits are iterated over; the fact ``skipped`` is complete only after that.

        Args:
            files: name of an asset → path of its checked file.
            scratch: an empty folder, which must exist until the splits were read.
        """
        splits = self._splits(self._open(self.source, files, scratch / "source"))
        rows = {name: (split, order, self.convert) for name, (split, order) in splits.items()}
        for label, source in self.outliers.items():
            opened = self._open(source, files, scratch / f"outlier {label}")
            split = opened.get("test", opened["train"])
            rows[f"ood/{label}"] = (split, self._draw(split.count, self.ood_count, label), self.convert_outlier)
        self.planned = sum(len(order) for _, order, _ in rows.values())
        streamed = {
            name: StreamedSplit(len(parts[1]), partial(self._chunks, name, *parts)) for name, parts in rows.items()
        }
        for name in self.ood_sets:
            streamed[f"ood/{name}"] = StreamedSplit(self.ood_count, partial(self._generated, name))
        facts = {"split_seed": self.split_seed, "skipped": self.skipped}
        if self.held_out_class is not None:
            facts["held_out_class"] = self.held_out_class
        return streamed, 2**self.convert.bits, facts

    @staticmethod
    def _open(source: Source, files: AssetFiles, scratch: Path) -> dict[str, SourceSplit]:
        scratch.mkdir()
        return source.open(files, scratch)

    def _draw(self, count: int, wanted: int | None, purpose: str) -> np.ndarray:
        """``wanted`` random indices below ``count``; all in order if ``wanted`` is None or at least ``count``."""
        if wanted is None or wanted >= count:
            return np.arange(count)
        return torch.randperm(count, generator=make_rng("images", purpose, self.split_seed))[:wanted].numpy()

    def _splits(self, opened: dict[str, SourceSplit]) -> dict[str, tuple[SourceSplit, np.ndarray]]:
        """For each split, the split of the source that it is taken from, and the indices of its images."""
        if self.held_out_class is not None:
            return self._anomaly_splits(opened)
        parts: dict[str, tuple[SourceSplit, np.ndarray]] = {}
        train = opened["train"]
        rest = np.arange(train.count)
        for name, wanted in (("test", self.test_count), ("validation", self.validation_count)):
            if name in opened:
                parts[name] = (opened[name], self._draw(opened[name].count, self._enough(opened, name, wanted), name))
            else:
                rest, drawn = self._take(rest, wanted, name)
                parts[name] = (train, drawn)
        parts["train"] = (train, rest[self._draw(len(rest), self.train_count, "train")])
        return {name: parts[name] for name in ("train", "validation", "test")}

    def _anomaly_splits(self, opened: dict[str, SourceSplit]) -> dict[str, tuple[SourceSplit, np.ndarray]]:
        pool = concatenate(list(opened.values()))
        if pool.labels is None or self.held_out_class not in pool.labels:
            raise SettingError(f"dataset.held_out_class: the source has no images of class {self.held_out_class}")
        normal = np.flatnonzero(pool.labels != self.held_out_class)
        rng = make_rng("images", "held out", self.held_out_class, self.split_seed)
        order = normal[torch.randperm(len(normal), generator=rng).numpy()]
        bound = round(TRAIN_SHARE * len(order))
        train, validation = self._take(order[:bound], self.validation_count, "validation")
        return {
            "train": (pool, train[: self.train_count]),
            "validation": (pool, validation),
            "test": (pool, order[bound:][: self.test_count]),
            "ood/held-out": (pool, np.flatnonzero(pool.labels == self.held_out_class)),
        }

    def _take(self, rest: np.ndarray, wanted: int | None, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Draw ``wanted`` of some training images for another split; returns the remaining and the drawn indices."""
        key = f"dataset.{name}_count"
        if wanted is None:
            raise SettingError(f"{key}: the source has no {name} split of its own; give the number of images to draw")
        if wanted >= len(rest):
            raise SettingError(f"{key}: {wanted} of {len(rest)} images that are left would leave none to train on")
        drawn = self._draw(len(rest), wanted, name)
        return np.delete(rest, drawn), rest[drawn]

    @staticmethod
    def _enough(opened: dict[str, SourceSplit], name: str, wanted: int | None) -> int | None:
        if wanted is not None and wanted > opened[name].count:
            raise SettingError(
                f"dataset.{name}_count: is {wanted}, but the source's {name} split has {opened[name].count} images"
            )
        return wanted

    def _chunks(self, name: str, split: SourceSplit, order: np.ndarray, convert: Conversion) -> Iterator[Chunk]:
        images, readable, some = [], [], False
        for index in order.tolist():
            if (image := self._read(split, index, convert)) is not None:
                images.append(image)
                readable.append(index)
            if len(images) == CHUNK:
                yield self._chunk(split, images, readable, name)
                images, readable, some = [], [], True
        if images:
            yield self._chunk(split, images, readable, name)
        elif not some:
            raise SettingError(f"dataset: the split '{name}' has no readable image")

    @staticmethod
    def _chunk(split: SourceSplit, images: list[np.ndarray], readable: list[int], name: str) -> Chunk:
        labelled = split.labels is not None and not name.startswith("ood/")
        return np.stack(images), split.labels[readable] if labelled else None

    def _read(self, split: SourceSplit, index: int, convert: Conversion) -> np.ndarray | None:
        """One converted image, or None if it is unreadable.

        Raises:
            JebmError: more than ``max_unreadable_fraction`` of the images are unreadable, or the image can't be
                converted.
        """
        name = split.name(index)
        try:
            image = split.read(index)
            refuse_wide(image, name)  # before it is decoded
            image.load()
            return convert(image, name)
        except DAMAGE_ERRORS as error:
            self.skipped[name] = _reason(error)
            log(f"{name}: unreadable: {self.skipped[name]}")
        if len(self.skipped) > self.max_unreadable_fraction * self.planned:
            named = "".join(f"\n  {name}: {reason}" for name, reason in list(self.skipped.items())[:MAX_LISTED])
            raise JebmError(
                f"{len(self.skipped)} of {self.planned} images are unreadable so far, more than "
                f"dataset.max_unreadable_fraction: {self.max_unreadable_fraction} allows:{named}"
            )
        return None

    def _generated(self, name: str) -> Iterator[Chunk]:
        rng = make_rng("images", "ood", name, self.split_seed)
        channels, size, levels = self.convert.channels, self.convert.size, 2**self.convert.bits
        shape = {"uniform": (channels, size, size), "constant": (channels, 1, 1)}[name]
        for start in range(0, self.ood_count, CHUNK):
            rows = min(CHUNK, self.ood_count - start)
            drawn = torch.randint(levels, (rows, *shape), generator=rng, dtype=torch.uint8)
            yield drawn.expand(rows, channels, size, size).contiguous().numpy(), None


def _reason(error: Exception) -> str:
    """Why an image is unreadable. Pillow's own message contains a memory address, so it would differ between runs."""
    if isinstance(error, UnidentifiedImageError):
        return "unknown image format"
    return " ".join(str(error).split()) or type(error).__name__
