"""Splits that are generated in chunks while they are written, so that no split has to fit into memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from jebm.io.tensors import TensorWriter, write_tensors_by_rows
from jebm.runtime.progress import Progress

Chunk = tuple[np.ndarray, np.ndarray | None]
"""uint8 images (rows, *image_shape), and their labels, int64 (rows,), or None."""


@dataclass(frozen=True)
class StreamedSplit:
    """A split that is generated chunk by chunk."""

    count: int
    """Upper bound of the number of rows; unreadable images are left out."""
    chunks: Callable[[], Iterator[Chunk]]


class WrittenSplit(NamedTuple):
    """Shape and labels of a split that was written."""

    shape: tuple[int, ...]
    labels: np.ndarray | None


def write_splits(path: Path, splits: dict[str, StreamedSplit], header: dict, scratch: Path) -> dict[str, WrittenSplit]:
    """Write all splits, and ``<split>_labels`` if they have labels, as one safetensors file, atomically.

    Args:
        scratch: a folder for temporary files. They are needed because the number of rows, which the header of the file
            contains, is known only after the last image.

    Returns:
        The shape and the labels of each split.
    """
    with write_tensors_by_rows(path, scratch) as out:
        out.header = header
        return {name: _write_split(out, name, rows, path) for name, rows in splits.items()}


def _write_split(out: TensorWriter, name: str, rows: StreamedSplit, path: Path) -> WrittenSplit:
    done, shape, labels, progress = 0, (), [], Progress(f"{path}")
    for images, classes in rows.chunks():
        out.append(name, torch.tensor(images))
        if classes is not None:
            out.append(f"{name}_labels", torch.tensor(classes, dtype=torch.int64))
            labels.append(classes)
        done, shape = done + len(images), images.shape[1:]
        progress(f"{name} images", done, rows.count)
    return WrittenSplit((done, *shape), np.concatenate(labels) if labels else None)
