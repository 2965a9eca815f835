"""Prepared datasets: a file of integer images and a manifest that describes them.

``images.safetensors`` holds a uint8 tensor (count, channels, height, width) with values 0 … levels − 1 for each split,
and ``<split>_labels`` for splits with labels. Out-of-distribution sets are named ``ood/<set>``.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from jebm.data.stream import StreamedSplit, write_splits
from jebm.errors import JebmError
from jebm.io.digests import digest_of, sha256
from jebm.io.filenames import IMAGES, MANIFEST
from jebm.io.files import read_json, write_json
from jebm.io.tensors import read_tensors, write_tensors


def to_pixels(images: torch.Tensor, levels: int) -> torch.Tensor:
    """Integer images, 0 … levels − 1, as floats in [−1, 1]."""
    return images.to(torch.float32) * (2.0 / (levels - 1)) - 1.0


def quantise(pixels: torch.Tensor, levels: int) -> torch.Tensor:
    """Floats, clamped to [−1, 1], rounded to the nearest integer level, 0 … levels − 1, uint8."""
    return ((pixels.clamp(-1.0, 1.0) + 1.0) * ((levels - 1) / 2.0)).round().to(torch.uint8)


Splits = dict[str, torch.Tensor] | dict[str, StreamedSplit]
"""Either uint8 tensors, with ``<split>_labels`` (int64) among them, or streamed splits, which include their labels."""


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset: its splits and its manifest."""

    tensors: dict[str, torch.Tensor]
    manifest: dict

    @property
    def levels(self) -> int:
        return self.manifest["levels"]

    @property
    def image_shape(self) -> tuple[int, ...]:
        return tuple(self.manifest["image_shape"])

    @property
    def ood_sets(self) -> list[str]:
        return [name.removeprefix("ood/") for name in self.tensors if name.startswith("ood/")]

    def images(self, split: str) -> torch.Tensor:
        """uint8 images of a split, (count, channels, height, width)."""
        return self.tensors[split]

    def pixels(self, split: str) -> torch.Tensor:
        """A split as floats in [−1, 1]."""
        return to_pixels(self.tensors[split], self.levels)

    def labels(self, split: str) -> torch.Tensor:
        return self.tensors[f"{split}_labels"]


def save_dataset(folder: Path, splits: Splits, levels: int, facts: dict, scratch: Path | None = None) -> None:
    """Write the images, then the manifest with their digest.

    Args:
        splits: the splits to write.
        levels: number of integer levels of the images.
        facts: further entries of the manifest. They are read after the images are written, because streamed splits may
            add to them.
        scratch: a folder for temporary files; required for streamed splits.
    """
    if any(isinstance(split, StreamedSplit) for split in splits.values()):
        written = write_splits(folder / IMAGES, splits, {"levels": levels}, scratch)
        shapes = {name: split.shape for name, split in written.items()}
        labels = written["train"].labels
    else:
        write_tensors(folder / IMAGES, splits, {"levels": levels})
        shapes = {name: tuple(tensor.shape) for name, tensor in splits.items() if not name.endswith("_labels")}
        labels = splits.get("train_labels")
    manifest = {
        **facts,
        "levels": levels,
        "classes": 0 if labels is None else int(labels.max()) + 1,
        "image_shape": list(next(iter(shapes.values()))[1:]),
        "counts": {name: shape[0] for name, shape in shapes.items()},
        "sha256": {IMAGES: sha256(folder / IMAGES)},
    }
    write_json(folder / MANIFEST, manifest)


def load_dataset(folder: Path) -> Dataset:
    """Read a prepared dataset.

    Raises:
        JebmError: a file is missing, or the images do not have the digest in the manifest.
    """
    manifest = read_json(folder / MANIFEST)
    tensors, _ = read_tensors(folder / IMAGES)
    try:
        expected = str(manifest["sha256"][IMAGES])
        _ = manifest["levels"], manifest["image_shape"]
    except (KeyError, TypeError):
        raise JebmError(f"{folder / MANIFEST}: not a manifest of jebm; delete {folder} and run again") from None
    found = digest_of(folder / IMAGES)
    if found != expected:
        raise JebmError(
            f"{folder / IMAGES}: sha256 is {found[:12]}…, the manifest says {expected[:12]}…; "
            f"delete {folder} and run again"
        )
    return Dataset(tensors, manifest)
