"""The small classifier whose penultimate layer is the feature space of FD-digits."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import skip_init

from jebm.config.types import Count, NonNegative, Positive
from jebm.errors import SettingError
from jebm.features.base import PixelSpace
from jebm.models.nets import initialise


class Classifier(PixelSpace):
    """Two 3×3 convolutions, 2×2 max-pooling, a linear layer to the features, and the class logits.

    Args:
        image_shape: (channels, height, width).
        classes: number of classes.
        channels: channels of both convolutions.
        dimensions: number of features.
        steps, batch_size, learning_rate: settings of its training.
        noise: standard deviation of the Gaussian noise on training images; pixels are in [−1, 1].
    """

    about = "penultimate layer of a classifier trained on the training split"
    needs_labels = True

    def __init__(
        self,
        image_shape: tuple[int, ...],
        classes: int,
        *,
        channels: Count = 32,
        dimensions: Count = 32,
        steps: Count = 600,
        batch_size: Count = 128,
        learning_rate: Positive = 2e-3,
        noise: NonNegative = 0.3,
    ):
        super().__init__()
        if len(image_shape) != 3 or classes < 2:
            raise SettingError(
                f"features.name: 'classifier' needs labelled images, not shape {list(image_shape)} "
                f"with {classes} classes; use 'identity'"
            )
        self.known_dimensions = dimensions
        self.steps, self.batch_size, self.learning_rate, self.noise = steps, batch_size, learning_rate, noise
        pooled = (image_shape[1] // 2) * (image_shape[2] // 2)
        self.body = nn.Sequential(
            skip_init(nn.Conv2d, image_shape[0], channels, 3, padding=1),
            nn.ReLU(),
            skip_init(nn.Conv2d, channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            skip_init(nn.Linear, channels * pooled, dimensions),
        )
        self.head = skip_init(nn.Linear, dimensions, classes)

    def initialise(self, rng: torch.Generator) -> None:
        initialise(self, rng)

    def of_pixels(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, dimensions): the penultimate layer, after its ReLU."""
        return torch.relu(self.body(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class logits, (batch, classes)."""
        return self.head(self.of_pixels(x))
