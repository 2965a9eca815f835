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


class NvaePixels(PixelDistribution):
    """A distribution as published NVAE weights have it (Vahdat and Kautz, 2020), evaluated at least in float32.

    Args:
        maps: the decoder's output, (batch, channels of the likelihood, height, width), converted at least to float32.
        colours: number of channels of the image.
    """

    def __init__(self, maps: torch.Tensor, colours: int):
        self.image_shape = (colours, *maps.shape[2:])
        self.maps = maps.to(torch.promote_types(maps.dtype, torch.float32))

    @abstractmethod
    def element_log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """log p, nats, of each channel of each pixel, (batch, colours, height, width); of each pixel, (batch, height,
        width), if the channels are dependent."""

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return self.element_log_prob(x).flatten(1).sum(1)

    @abstractmethod
    def sample(self, rng: torch.Generator, temperature: float = 1.0) -> torch.Tensor:
        """One image per distribution, clamped to [−1, 1] but not rounded to the levels of the data.

        The mixture divides both the scales of its components and the logits of the choice by the temperature, so a
        temperature below 1 gives *more* noise. Bernoulli pixels divide their logits. Gaussian pixels ignore it.
        """


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
