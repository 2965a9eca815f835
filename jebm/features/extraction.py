"""Computes the features of images in batches."""

from collections.abc import Iterator

import numpy as np
import torch

from jebm.features.base import FeatureSpace
from jebm.runtime.distributed import ranks


@torch.no_grad()
def feature_batches(
    space: FeatureSpace, images: torch.Tensor, levels: int, device: str, batch_size: int | None = None
) -> Iterator[torch.Tensor]:
    """Yields the features of uint8 images with values 0 … levels − 1, in batches (≤ batch_size, dimensions).

    With several ranks, each computes the features of its part of the images.
    """
    part = ranks().shard_range(len(images))
    images = images[part.start : part.stop]
    for batch in images.split(batch_size or space.max_batch_size):
        yield space.features(batch.to(device), levels)


def extract(
    space: FeatureSpace, images: torch.Tensor, levels: int, device: str, batch_size: int | None = None
) -> np.ndarray | None:
    """The features of all images, (count, dimensions), float64, on rank 0; None on the other ranks."""
    parts = ranks().gather_object([batch.cpu() for batch in feature_batches(space, images, levels, device, batch_size)])
    return None if parts is None else torch.cat([batch for part in parts for batch in part]).double().numpy()
