"""Splits that are made while they are written: images come in chunks, so that no split is ever in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from jebm.io.tensors import TensorStream, stream_tensors
from jebm.runtime.progress import Progress

Chunk = tuple[np.ndarray, np.ndarray | None]
"""uint8 images (rows, *image_shape), and their labels, int64 (rows,), if there are any."""


@dataclass(frozen=True)
class Rows:
    """A split as a stream."""

    count: int
    """At most so many rows."""
    chunks: Callable[[], Iterator[Chunk]]


class Written(NamedTuple):
    shape: tuple[int, ...]
    labels: np.ndarray | None


def write_rows(path: Path, splits: dict[str, Rows], header: dict, scratch: Path) -> dict[str, Written]:
    """Write all splits, and ``<split>_labels`` where there are labels, as one safetensors file, whole or not at all.

    ``scratch`` is a folder for the rows of each split on their way: how many there are is known only after the last
    unreadable picture. Returns the shape and the labels of each split.
    """
    with stream_tensors(path, scratch) as out:
        out.header = header
        return {name: _write_split(out, name, rows, path) for name, rows in splits.items()}


def _write_split(out: TensorStream, name: str, rows: Rows, path: Path) -> Written:
    done, shape, labels, progress = 0, (), [], Progress(f"{path}")
    for images, classes in rows.chunks():
        out.append(name, torch.tensor(images))
        if classes is not None:
            out.append(f"{name}_labels", torch.tensor(classes, dtype=torch.int64))
            labels.append(classes)
        done, shape = done + len(images), images.shape[1:]
        progress(f"{name} images", done, rows.count)
    return Written((done, *shape), np.concatenate(labels) if labels else None)
