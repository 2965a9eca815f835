"""Splits that are made while they are written: images come in chunks, so that no split is ever in memory.

A safetensors file is a header and then the tensors' bytes, one after another. How many rows there are is known only
after the last unreadable picture, so the rows first go to a file of their own.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from jebm.io.files import published
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

    ``scratch`` is a folder for the rows of each split on their way. Returns the shape and the labels of each split.
    """
    files = {name: scratch / f"rows-{number}" for number, name in enumerate(splits)}
    written = {name: _write_split(files[name], name, rows, path) for name, rows in splits.items()}
    with published(path, "wb") as file:
        _assemble(file, files, written, header)
    return written


def _write_split(path: Path, name: str, rows: Rows, title: Path) -> Written:
    done, shape, labels, progress = 0, (), [], Progress(f"{title}")
    with open(path, "wb") as file:
        for images, classes in rows.chunks():
            file.write(images)
            done, shape = done + len(images), images.shape[1:]
            labels += [] if classes is None else [classes]
            progress(f"{name} images", done, rows.count)
    return Written((done, *shape), np.concatenate(labels) if labels else None)


def _assemble(file: BinaryIO, files: dict[str, Path], written: dict[str, Written], header: dict) -> None:
    """The format's header, then labels, whose alignment is the larger one, then images."""
    labels = {
        f"{name}_labels": split.labels.astype("<i8") for name, split in written.items() if split.labels is not None
    }
    entries, end = {"__metadata__": {"jebm": json.dumps(header, sort_keys=True)}}, 0
    sizes = [(name, "I64", array.shape, array.nbytes) for name, array in labels.items()]
    sizes += [(name, "U8", split.shape, int(np.prod(split.shape))) for name, split in written.items()]
    for name, dtype, shape, size in sizes:
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for array in labels.values():
        file.write(array.tobytes())
    for name in written:
        with open(files[name], "rb") as source:
            shutil.copyfileobj(source, file, 2**20)
