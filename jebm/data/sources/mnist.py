"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., 2017): 60,000 + 10,000 grey images of 28×28."""

from __future__ import annotations

import shutil
from pathlib import Path

from torchvision.datasets.mnist import read_image_file, read_label_file

from jebm.config.types import AssetName
from jebm.data.assets import AssetFiles
from jebm.data.sources.base import Source, SourceSplit, explain_damage, from_array
from jebm.io.compression import open_uncompressed


class Mnist(Source):
    """
    Args:
        train_images, train_labels, test_images, test_labels: IDX files, compressed or not.
    """

    channels = 1

    def __init__(
        self,
        *,
        train_images: AssetName = "mnist-train-images",
        train_labels: AssetName = "mnist-train-labels",
        test_images: AssetName = "mnist-test-images",
        test_labels: AssetName = "mnist-test-labels",
    ):
        self.files = {"train": (train_images, train_labels), "test": (test_images, test_labels)}

    def open(self, files: AssetFiles, scratch: Path) -> dict[str, SourceSplit]:
        splits = {}
        for name, (image_file, label_file) in self.files.items():
            path = files(image_file)
            images = _read(read_image_file, path, scratch)
            labels = _read(read_label_file, files(label_file), scratch)
            with explain_damage(path, "the images of these labels"):
                if len(images) != len(labels):
                    raise ValueError(f"{len(images)} images and {len(labels)} labels")
            splits[name] = from_array(images.numpy(), labels.numpy(), f"{path} image")
        return splits


def _read(reader, path: Path, scratch: Path):
    """Extract a file and read it by a reader of torchvision, which takes only extracted files."""
    with explain_damage(path, "an IDX file"):
        extracted = scratch / path.stem
        with open_uncompressed(path) as source, open(extracted, "wb") as target:
            shutil.copyfileobj(source, target)
        return reader(str(extracted))
