"""Independent normal pixels with a common standard deviation, fixed or learned."""

from __future__ import annotations

import math

import torch
from torch import nn

from jebm.config.types import Positive
from jebm.errors import SettingError
from jebm.models.backbones.base import LOG_2PI
from jebm.models.likelihoods.base import Likelihood, PixelDistribution


class NormalPixels(PixelDistribution):
    """N(x; mean, sigma²) for means (batch, *image_shape) and one sigma, a scalar tensor."""

    def __init__(self, mean: torch.Tensor, sigma: torch.Tensor):
        self._mean, self.sigma = mean, sigma

    @property
    def mean(self) -> torch.Tensor:
        return self._mean

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        squares = ((x - self._mean) / self.sigma).square().flatten(1).sum(1)
        pixels = math.prod(self._mean.shape[1:])
        return -0.5 * squares - pixels * (torch.log(self.sigma) + 0.5 * LOG_2PI)

    def sample(self, rng: torch.Generator) -> torch.Tensor:
        noise = torch.randn(self._mean.shape, generator=rng, device=self._mean.device, dtype=self._mean.dtype)
        return self._mean + self.sigma * noise


class GaussianLikelihood(Likelihood):
    """p(x | z) = N(tanh(parameters), σ²).

    A learned σ is sigma_min + (sigma − sigma_min)·exp(r), with a scalar r that is initialised to 0, so σ starts at
    ``sigma``. The lower bound ``sigma_min`` keeps the density of a pixel bounded.

    Args:
        sigma: standard deviation of a pixel given z; pixels are in [−1, 1]. The initial value if it is learned.
        learned: whether σ is learned.
        sigma_min: lower bound of a learned σ.

    Raises:
        SettingError: a learned σ would start at or below its lower bound.
    """

    def __init__(
        self, image_shape: tuple[int, ...], *, sigma: Positive = 0.3, learned: bool = False, sigma_min: Positive = 0.01
    ):
        super().__init__()
        if learned and sigma <= sigma_min:
            raise SettingError(
                f"backbone.likelihood.sigma: is {sigma}; to be learned it must start above sigma_min, {sigma_min}"
            )
        self.image_shape, self.channels = tuple(image_shape), image_shape[0]
        self.initial_sigma, self.sigma_min = sigma, sigma_min
        self.log_excess = nn.Parameter(torch.zeros(())) if learned else None

    @property
    def sigma(self) -> torch.Tensor | float:
        """The present σ, a standard deviation."""
        if self.log_excess is None:
            return self.initial_sigma
        return self.sigma_min + (self.initial_sigma - self.sigma_min) * torch.exp(self.log_excess)

    def forward(self, parameters: torch.Tensor) -> NormalPixels:
        # Created on the device: a copy from the host would synchronise host and GPU at every step of a chain.
        sigma = self.sigma if self.log_excess is not None else parameters.new_full((), self.initial_sigma)
        return NormalPixels(torch.tanh(parameters), sigma)
