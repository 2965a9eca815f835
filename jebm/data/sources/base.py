"""The interface of sources of images. A source has splits, whose images are decoded one by one.

A source takes its parameters by keyword and reads no file before ``open``. The splits are named ``train``,
``validation`` and ``test``; a source without splits has ``train`` only.
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
"""Errors that readers raise if a file is damaged or of another format."""


@dataclass(frozen=True)
class SourceSplit:
    """Images in a fixed order, which are read one by one."""

    count: int
    read: Callable[[int], Image.Image]
    """The image at an index; raises one of ``DAMAGE_ERRORS`` if it can't be decoded."""
    name: Callable[[int], str]
    """A name of the image at an index, by which a user can find it."""
    labels: np.ndarray | None = None
    """int64 (count,), or None if the source has no classes."""


class Source(ABC):
    """A source of images. Its parameters are the keyword arguments of the constructor."""

    channels = 3
    """Channels of the images as published."""
    labelled = True
    """Whether the images have classes."""

    @abstractmethod
    def open(self, files: AssetFiles, scratch: Path) -> dict[str, SourceSplit]:
        """The splits.

        Args:
            files: name of an asset → path of its checked file.
            scratch: an empty folder for extracted files; it is removed after the splits were read.

        Raises:
            JebmError: a file is missing, damaged, or of another format.
        """


def from_array(images: np.ndarray, labels: np.ndarray, what: str) -> SourceSplit:
    """A split of uint8 images (count, height, width[, 3]) in memory; ``what`` precedes the index in their names."""
    return SourceSplit(
        len(images), lambda i: Image.fromarray(images[i]), lambda i: f"{what} {i}", np.asarray(labels, np.int64)
    )


def concatenate(splits: list[SourceSplit]) -> SourceSplit:
    """The concatenation of several splits."""
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
    """Turn the errors of a reader into a :class:`JebmError`: the file is damaged, or not ``what``."""
    try:
        yield
    except DAMAGE_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise JebmError(f"{path}: damaged, or not {what}: {reason}") from None
