"""The interface of feature spaces, in which distributions of images are compared."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from jebm.data.dataset import to_pixels


class FeatureSpace(nn.Module, ABC):
    """A map from images to features. Constructed from (image_shape, classes), and parameters by keyword."""

    about: str
    """Description of the space in the protocols of metrics."""
    streamed = False
    """Whether there are so many features that distances use moments, computed batch by batch, and a bounded number of
    features per set. Then the moments of the reference are a separate stage, and distances are named FID and KID
    instead of FD and KD."""
    flattens = False
    """Whether the features are the pixels themselves."""
    needs_labels = False
    """Whether training the feature space needs classes."""
    steps: int = 0
    """Training steps; 0 if nothing is trained."""
    known_dimensions: int = 0
    """Number of features, if it is known in advance, else 0. A covariance needs more images than features."""
    max_batch_size: int = 2000
    """Number of images per batch if ``evaluate_samples.batch_size`` is not set."""

    @abstractmethod
    def features(self, images: torch.Tensor, levels: int) -> torch.Tensor:
        """Features (batch, dimensions) of uint8 images with values 0 … levels − 1, (batch, *image_shape)."""

    def facts(self) -> dict:
        """Further entries of protocols besides ``about``."""
        return {}


class PixelSpace(FeatureSpace):
    """A feature space that takes pixels as floats."""

    def features(self, images, levels):
        return self.of_pixels(to_pixels(images, levels))

    @abstractmethod
    def of_pixels(self, x: torch.Tensor) -> torch.Tensor:
        """Features (batch, dimensions) of pixels in [−1, 1], (batch, *image_shape)."""
