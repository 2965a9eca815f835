"""The data themselves as the feature space: for data of few dimensions that no classifier need look through."""

import torch
from torch import nn


class Identity(nn.Module):
    """Features are the flattened data; nothing is trained."""

    about = "the data themselves"
    steps = 0

    def __init__(self, image_shape: tuple[int, ...], classes: int):
        super().__init__()

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, dimensions)."""
        return x.flatten(1)
