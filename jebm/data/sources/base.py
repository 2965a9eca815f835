"""What a source of images offers: its splits, each a list of images that are decoded one by one.

A source takes its parameters by keyword and reads nothing before ``open``. Names of splits are ``train``,
``validation`` and ``test``; a source that is not split has ``train`` alone.
"""

import pickle
import struct
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from jebm.data.assets import AssetFiles
from jebm.errors import JebmError

DAMAGE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, KeyError, AssertionError, TypeError, struct.error, zlib.error,
    tarfile.TarError, zipfile.BadZipFile, pickle.UnpicklingError, Image.DecompressionBombError, RuntimeError,
)  # fmt: skip
"""What readers of files raise when a file is damaged or of another kind."""


@dataclass(frozen=True)
class SourceSplit:
    """Images that are read one by one, in a fixed order."""

    count: int
    read: Callable[[int], Image.Image]
    """The image at an index; raises one of ``DAMAGE`` where it can't be decoded."""
    name: Callable[[int], str]
    """What a person finds the image by."""
    labels: np.ndarray | None = None
    """int64 (count,), if the source has classes."""


class Source(ABC):
    channels = 3
    """Of its images as published."""

    @abstractmethod
    def open(self, files: AssetFiles, scratch: Path) -> dict[str, SourceSplit]:
        """The splits.

        Args:
            files: name of an asset → its checked file.
            scratch: an empty folder for what has to be extracted, removed after the splits were read.

        Raises:
            JebmError: a file is missing, damaged, or not of this format.
        """


def from_array(images: np.ndarray, labels: np.ndarray, what: str) -> SourceSplit:
    """A split of uint8 images (count, height, width[, 3]) that are in memory."""
    return SourceSplit(
        len(images), lambda i: Image.fromarray(images[i]), lambda i: f"{what} {i}", np.asarray(labels, np.int64)
    )


def concatenate(splits: list[SourceSplit]) -> SourceSplit:
    """Several splits as one, one after another."""
    starts = np.cumsum([0, *(split.count for split in splits)])

    def at(index: int) -> tuple[SourceSplit, int]:
        which = int(np.searchsorted(starts, index, "right")) - 1
        return splits[which], index - int(starts[which])

    def read(index: int) -> Image.Image:
        split, inside = at(index)
        return split.read(inside)

    def name(index: int) -> str:
        split, inside = at(index)
        return split.name(inside)

    labelled = all(split.labels is not None for split in splits)
    labels = np.concatenate([split.labels for split in splits]) if labelled else None
    return SourceSplit(int(starts[-1]), read, name, labels)


@contextmanager
def explain_damage(path: Path, what: str):
    """Around the reading of an archive: what it raises becomes one sentence."""
    try:
        yield
    except DAMAGE_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise JebmError(f"{path}: damaged, or not {what}: {reason}") from None
