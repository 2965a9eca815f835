"""Features of images for the distances between distributions, in batches."""

from collections.abc import Iterator

import numpy as np
import torch

from jebm.features.base import FeatureSpace
from jebm.runtime.distributed import ranks


@torch.no_grad()
def feature_batches(
    space: FeatureSpace, images: torch.Tensor, levels: int, device: str, batch_size: int | None = None
) -> Iterator[torch.Tensor]:
    """Features of uint8 images in ``levels`` grey levels, a batch (≤ batch_size, dimensions) after the other.

    Of several ranks each has its part of the images.
    """
    part = ranks().shard_range(len(images))
    images = images[part.start : part.stop]
    for batch in images.split(batch_size or space.images_at_once):
        yield space.features(batch.to(device), levels)


def extract(
    space: FeatureSpace, images: torch.Tensor, levels: int, device: str, batch_size: int | None = None
) -> np.ndarray | None:
    """The features of all images at once, (count, dimensions), float64; None where another rank has them."""
    parts = ranks().gather_object([batch.cpu() for batch in feature_batches(space, images, levels, device, batch_size)])
    return None if parts is None else torch.cat([batch for part in parts for batch in part]).double().numpy()
