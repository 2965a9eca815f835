"""Features of images for the distances between distributions, in batches."""

import numpy as np
import torch

from jebm.data.dataset import to_pixels
from jebm.models.classifier import Classifier


@torch.no_grad()
def extract(classifier: Classifier, images: torch.Tensor, levels: int, batch_size: int = 2000) -> np.ndarray:
    """Penultimate-layer features of uint8 images in ``levels`` grey levels, (count, dimensions), float64."""
    device = next(classifier.parameters()).device
    batches = [classifier.features(to_pixels(batch.to(device), levels)) for batch in images.split(batch_size)]
    return torch.cat(batches).double().cpu().numpy()
