"""The data themselves as the feature space, for data of few dimensions."""

import math

import torch

from jebm.features.base import PixelSpace


class Identity(PixelSpace):
    """Features are the flattened data; nothing is trained."""

    about = "the data themselves"
    flattens = True

    def __init__(self, image_shape: tuple[int, ...], classes: int):
        super().__init__()
        self.known_dimensions = math.prod(image_shape)

    def of_pixels(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)
