"""The interface of likelihoods p(x | z): what a decoder's map of parameters says about pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn


class PixelDistribution(ABC):
    """A distribution over images, one for each row of a batch; pixels in [−1, 1]."""

    @abstractmethod
    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """log p(x), (batch,), nats: a density for continuous pixels, a mass for discrete ones."""

    @property
    @abstractmethod
    def mean(self) -> torch.Tensor:
        """E[x], (batch, *image_shape), in [−1, 1]."""

    @abstractmethod
    def sample(self, rng: torch.Generator) -> torch.Tensor:
        """A draw, (batch, *image_shape)."""


class Likelihood(nn.Module, ABC):
    """Turns what a decoder puts out, (batch, *parameter_shape), into a distribution over images.

    Attributes:
        image_shape: (channels, height, width), or any shape where the likelihood treats all pixels alike.
        channels: channels of the map of parameters; it is as high and wide as the image.
        levels: the number of integer levels on which the pixels lie, or None where they may have any value.
    """

    image_shape: tuple[int, ...]
    channels: int
    levels: int | None = None

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return (self.channels, *self.image_shape[1:])

    @abstractmethod
    def forward(self, parameters: torch.Tensor) -> PixelDistribution:
        """p(x | z) for parameters that may have any value, (batch, *parameter_shape)."""
