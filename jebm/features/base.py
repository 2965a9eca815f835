"""The interface of feature spaces: what images are looked at through when their distributions are compared."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from jebm.data.dataset import to_pixels


class FeatureSpace(nn.Module, ABC):
    """Built from (image_shape, classes) and parameters by keyword."""

    about: str
    """What the space is, as protocols name it."""
    streamed = False
    """Whether it has so many dimensions that sets are compared by their moments, collected batch by batch, and by a
    bounded number of features. The moments of the reference are then a stage of their own, and distances are named FID
    and KID instead of FD and KD."""
    steps: int = 0
    """Of its training; 0 trains nothing."""
    known_dimensions: int = 0
    """Features that images of any kind fill, where that is known before images are seen: more of them are needed."""
    max_batch_size: int = 2000
    """How many images it is given, where ``evaluate_samples.batch_size`` doesn't say."""

    @abstractmethod
    def features(self, images: torch.Tensor, levels: int) -> torch.Tensor:
        """Features (batch, dimensions) of uint8 images with values 0 … levels − 1, (batch, *image_shape)."""

    def facts(self) -> dict:
        """What a protocol must say of the space besides ``about``."""
        return {}


class PixelSpace(FeatureSpace):
    """A space whose features are a function of pixels as floats."""

    def features(self, images, levels):
        return self.of_pixels(to_pixels(images, levels))

    @abstractmethod
    def of_pixels(self, x: torch.Tensor) -> torch.Tensor:
        """Features (batch, dimensions) of floats in [−1, 1]."""
