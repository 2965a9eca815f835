"""Images of any source, cropped and resized to squares of one size, and sets that are out of distribution."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import UnidentifiedImageError

from jebm.config.components import build, component_class
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
from jebm.errors import JebmError
from jebm.runtime.progress import log
from jebm.runtime.random import make_rng

CHUNK = 256
"""Images that are in memory at a time."""
MAX_LISTED = 20
"""Unreadable images that an error names; the manifest names all."""
TRAIN_SHARE = 0.8
"""Of the normal images, in the published protocol of anomaly detection."""


class Images:
    """Train / validation / test of a source, and out-of-distribution sets; nothing larger than a chunk is in memory.

    A source's own test split is the test split, and its own validation split the validation split; what a source does
    not have is drawn from its training images. Splits that are taken whole keep the source's order, others come in the
    order of their draw.

    Args:
        source: what is read, see ``jebm/data/sources``.
        size: height and width, pixels.
        crop: side of the central square that is cut out first, in pixels of the source; null: the largest one.
        mode: channels of the result.
        resample: filter of the change of size.
        upscale: whether smaller images are enlarged instead of refused.
        background: what stands behind transparent pixels.
        bits: of a stored channel; 5 leaves 32 levels.
        unreadable_share: skip and name unreadable images up to this share of all that are read.
        train_count: at most so many training images, drawn by ``split_seed``; null: all.
        validation_count: images of this split; null: the source's own one whole.
        test_count: likewise; a source without a test split needs a number.
        split_seed: of everything drawn here.
        held_out_class: a class that is in none of the splits; all its images are the further set ``held-out``. All
            images are pooled first, and 80 % of the others are for training and validation, 20 % for the test split:
            the published protocol of anomaly detection on MNIST (Zenati et al., 2018).
        ood_sets: generated sets: ``uniform`` noise in every channel of every pixel, ``constant`` images of one random
            colour.
        outliers: label → another source, whose test images (all images, where it has no test split) become the set of
            that label, converted alike; but of each the largest central square is taken, and enlarged if need be.
        ood_count: images of each generated set, and at most so many of each outlier source.
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
        unreadable_share: Fraction = 0.0,
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
        # An outlier is of another shape than the crop was chosen for.
        self.convert_outlier = Conversion(channels, size, None, resample, True, background, bits)
        self.unreadable_share = unreadable_share
        self.train_count, self.validation_count, self.test_count = train_count, validation_count, test_count
        self.split_seed, self.held_out_class = split_seed, held_out_class
        self.ood_sets, self.ood_count = ood_sets, ood_count
        self.skipped: dict[str, str] = {}
        self.planned = 0

    @staticmethod
    def shape_of(block) -> tuple[int, ...]:
        """The shape of one image, which the block of parameters decides; known before anything is prepared."""
        source = component_class("source", block.source.name)
        return ({"source": source.channels, "rgb": 3, "grey": 1}[block.mode], block.size, block.size)

    def prepare(self, files: AssetFiles, scratch: Path) -> tuple[dict[str, StreamedSplit], int, dict]:
        """The splits as streams, the levels, and facts for the manifest; ``skipped`` fills while they are read.

        ``scratch`` is an empty folder that must be there until then.
        """
        splits = self._splits(self._open(self.source, files, scratch / "source"))
        rows = {name: (split, order, self.convert) for name, (split, order) in splits.items()}
        for label, source in self.outliers.items():
            opened = self._open(source, files, scratch / f"outlier {label}")
            split = opened.get("test", opened["train"])
            rows[f"ood/{label}"] = (split, self._draw(split.count, self.ood_count, label), self.convert_outlier)
        self.planned = sum(len(order) for _, order, _ in rows.values())
        streams = {
            name: StreamedSplit(len(parts[1]), partial(self._chunks, name, *parts)) for name, parts in rows.items()
        }
        for name in self.ood_sets:
            streams[f"ood/{name}"] = StreamedSplit(self.ood_count, partial(self._generated, name))
        facts = {"split_seed": self.split_seed, "skipped": self.skipped}
        if self.held_out_class is not None:
            facts["held_out_class"] = self.held_out_class
        return streams, 2**self.convert.bits, facts

    @staticmethod
    def _open(source: Source, files: AssetFiles, scratch: Path) -> dict[str, SourceSplit]:
        scratch.mkdir()
        return source.open(files, scratch)

    def _draw(self, count: int, wanted: int | None, purpose: str) -> np.ndarray:
        """Indices of ``wanted`` of ``count`` images; of all, in their order, where no fewer are wanted."""
        if wanted is None or wanted >= count:
            return np.arange(count)
        return torch.randperm(count, generator=make_rng("images", purpose, self.split_seed))[:wanted].numpy()

    def _splits(self, opened: dict[str, SourceSplit]) -> dict[str, tuple[SourceSplit, np.ndarray]]:
        """Which images of which split of the source make each split."""
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
            raise JebmError(
                f"params.yaml: dataset.held_out_class: the source has no images of class {self.held_out_class}"
            )
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
        """What is left of some training images, and ``wanted`` that are drawn from them for another split."""
        key = f"params.yaml: dataset.{name}_count"
        if wanted is None:
            raise JebmError(f"{key}: the source has no {name} split of its own; give the number of images to draw")
        if wanted >= len(rest):
            raise JebmError(f"{key}: {wanted} of {len(rest)} images that are left would leave none to train on")
        drawn = self._draw(len(rest), wanted, name)
        return np.delete(rest, drawn), rest[drawn]

    @staticmethod
    def _enough(opened: dict[str, SourceSplit], name: str, wanted: int | None) -> int | None:
        if wanted is not None and wanted > opened[name].count:
            raise JebmError(
                f"params.yaml: dataset.{name}_count: is {wanted}, but the source's {name} split has "
                f"{opened[name].count} images"
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
            raise JebmError(f"params.yaml: dataset: the split '{name}' has no readable image")

    @staticmethod
    def _chunk(split: SourceSplit, images: list[np.ndarray], readable: list[int], name: str) -> Chunk:
        labelled = split.labels is not None and not name.startswith("ood/")
        return np.stack(images), split.labels[readable] if labelled else None

    def _read(self, split: SourceSplit, index: int, convert: Conversion) -> np.ndarray | None:
        """One image, or None where it can't be read, as long as there are few such images.

        Raises:
            JebmError: there are more; or the image is one that no conversion is right for.
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
        if len(self.skipped) > self.unreadable_share * self.planned:
            named = "".join(f"\n  {name}: {reason}" for name, reason in list(self.skipped.items())[:MAX_LISTED])
            raise JebmError(
                f"{len(self.skipped)} of {self.planned} images are unreadable so far, more than params.yaml: "
                f"dataset.unreadable_share: {self.unreadable_share} allows:{named}"
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
    """Why an image can't be read, in words that are the same each time: Pillow's name the object in memory."""
    if isinstance(error, UnidentifiedImageError):
        return "no image format that is known"
    return " ".join(str(error).split()) or type(error).__name__
