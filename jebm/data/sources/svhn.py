"""SVHN, cropped digits (Netzer et al., 2011): 73,257 + 26,032 images of 32×32, and 531,131 easier extra ones.

The extra file holds 1.6 GB of pixels in one compressed MATLAB variable. torchvision reads this variable into memory.
Here it is decompressed to a file, from which single images are read; this is possible because MATLAB stores one image
after the other.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat, whosmat

from jebm.config.types import AssetName
from jebm.data.assets import AssetFiles
from jebm.data.sources.base import Source, SourceSplit, concatenate, explain_damage

HEADER, COMPRESSED, MATRIX, UINT8 = 128, 15, 14, 2
"""Constants of MATLAB's file format, level 5: bytes before the first element, and types of elements."""
CHUNK = 2**20


class Svhn(Source):
    """SVHN; the labels are the digits, 0 to 9.

    Args:
        train, test: train_32x32.mat and test_32x32.mat.
        extra: extra_32x32.mat, which is added to the training split; null leaves it out.
    """

    def __init__(
        self,
        *,
        train: AssetName = "svhn-train",
        test: AssetName = "svhn-test",
        extra: AssetName | None = None,
    ):
        self.train, self.test, self.extra = train, test, extra

    def open(self, files: AssetFiles, scratch: Path) -> dict[str, SourceSplit]:
        train = _open(files(self.train), scratch)
        if self.extra is not None:
            train = concatenate([train, _open(files(self.extra), scratch)])
        return {"train": train, "test": _open(files(self.test), scratch)}


def _open(path: Path, scratch: Path) -> SourceSplit:
    with explain_damage(path, "SVHN's cropped digits"):
        shapes = {name: shape for name, shape, _ in whosmat(str(path))}
        if shapes["X"][:3] != (32, 32, 3) or len(shapes["X"]) != 4:
            raise ValueError(f"X has shape {shapes['X']} instead of (32, 32, 3, count)")
        labels = loadmat(str(path), variable_names=["y"])["y"].reshape(-1).astype(np.int64)
        labels[labels == 10] = 0
        pixels = scratch / f"{path.stem}.pixels"
        with open(pixels, "wb") as file:
            for chunk in stream_variable(path, "X"):
                file.write(chunk)
        count = shapes["X"][3]
        if pixels.stat().st_size != count * 3072 or len(labels) != count:
            raise ValueError(f"{count} images, {len(labels)} labels, {pixels.stat().st_size} bytes of pixels")
    descriptor = os.open(pixels, os.O_RDONLY)

    def read(index: int) -> Image.Image:
        content = os.pread(descriptor, 3072, 3072 * index)
        return Image.fromarray(np.frombuffer(content, np.uint8).reshape(3, 32, 32).transpose(2, 1, 0))

    return SourceSplit(count, read, lambda i: f"{path} image {i}", labels)


def stream_variable(path: Path, name: str) -> Iterator[bytes]:
    """The bytes of a uint8 variable in a MATLAB file of level 5, in MATLAB's order: the first index varies fastest."""
    with open(path, "rb") as file:
        file.seek(HEADER)
        while tag := file.read(8):
            kind, size = struct.unpack("<II", tag)
            end = file.tell() + size
            reader = _Element(file, size, kind == COMPRESSED)
            if kind == COMPRESSED:
                kind, _ = struct.unpack("<II", reader.take(8))
            if kind == MATRIX and reader.header() == name:
                kind, size = struct.unpack("<II", reader.take(8))
                if kind != UINT8:
                    raise ValueError(f"{name} is not stored as uint8")
                while size:
                    chunk = reader.take(min(size, CHUNK))
                    size -= len(chunk)
                    yield chunk
                return
            file.seek(end)
    raise KeyError(name)


class _Element:
    """The bytes of one element of the file, decompressed on demand."""

    def __init__(self, file, size: int, compressed: bool):
        self.file, self.left, self.ready = file, size, b""
        self.inflate = zlib.decompressobj().decompress if compressed else bytes

    def take(self, size: int) -> bytes:
        while len(self.ready) < size:
            raw = self.file.read(min(self.left, CHUNK // 4))
            if not raw:
                raise ValueError("ends in the middle of a variable")
            self.left -= len(raw)
            self.ready += self.inflate(raw)
        taken, self.ready = self.ready[:size], self.ready[size:]
        return taken

    def header(self) -> str:
        """Read the flags, dimensions and name of a matrix; returns the name."""
        for _ in range(2):
            self._small_element()
        return self._small_element().decode()

    def _small_element(self) -> bytes:
        kind, size = struct.unpack("<II", self.take(8))
        if kind >> 16:  # small elements store up to four bytes in place of the size
            return struct.pack("<I", size)[: kind >> 16]
        return self.take(size + -size % 8)[:size]
