"""Features of images for the distances between distributions, in batches."""

import numpy as np
import torch
from torch import nn

from jebm.data.dataset import to_pixels


@torch.no_grad()
def extract(space: nn.Module, images: torch.Tensor, levels: int, device: str, batch_size: int = 2000) -> np.ndarray:
    """``space.features`` of uint8 images in ``levels`` grey levels, (count, dimensions), float64."""
    batches = [space.features(to_pixels(batch.to(device), levels)) for batch in images.split(batch_size)]
    return torch.cat(batches).double().cpu().numpy()
