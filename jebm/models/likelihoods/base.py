"""The interface of likelihoods p(x | z): distributions of pixels, parametrised by the output map of a decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn


class PixelDistribution(ABC):
    """A batch of distributions over images with pixels in [−1, 1]."""

    @abstractmethod
    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """log p(x), (batch,), nats: a density for continuous pixels, a probability mass for discrete ones."""

    @property
    @abstractmethod
    def mean(self) -> torch.Tensor:
        """E[x], (batch, *image_shape), in [−1, 1]."""

    @abstractmethod
    def sample(self, rng: torch.Generator) -> torch.Tensor:
        """One draw per distribution, (batch, *image_shape)."""


class Likelihood(nn.Module, ABC):
    """Maps the output of a decoder, (batch, *parameter_shape), to a distribution over images.

    Attributes:
        image_shape: (channels, height, width), or any shape if the likelihood treats all pixels alike.
        channels: channels of the decoder's output, which has the height and width of the image.
        levels: number of integer levels of a discrete likelihood, or None for a continuous one.
    """

    image_shape: tuple[int, ...]
    channels: int
    levels: int | None = None

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return (self.channels, *self.image_shape[1:])

    @abstractmethod
    def forward(self, parameters: torch.Tensor) -> PixelDistribution:
        """p(x | z) for unconstrained parameters, (batch, *parameter_shape)."""
