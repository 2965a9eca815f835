"""Features of images for the distances between distributions, in batches."""

from collections.abc import Iterator

import numpy as np
import torch

from jebm.models.feature_space import FeatureSpace


@torch.no_grad()
def batches(
    space: FeatureSpace, images: torch.Tensor, levels: int, device: str, batch_size: int | None = None
) -> Iterator[torch.Tensor]:
    """Features of uint8 images in ``levels`` grey levels, a batch (≤ batch_size, dimensions) after the other."""
    for batch in images.split(batch_size or space.images_at_once):
        yield space.features(batch.to(device), levels)


def extract(
    space: FeatureSpace, images: torch.Tensor, levels: int, device: str, batch_size: int | None = None
) -> np.ndarray:
    """The features of all images at once, (count, dimensions), float64."""
    return torch.cat(list(batches(space, images, levels, device, batch_size))).double().cpu().numpy()
