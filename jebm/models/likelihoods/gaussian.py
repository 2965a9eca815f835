"""Independent normal pixels with a common standard deviation, fixed or learned."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributions import Normal

from jebm.config.types import Positive
from jebm.errors import SettingError
from jebm.models.likelihoods.base import Likelihood, PixelDistribution


class NormalPixels(PixelDistribution):
    """N(x; mean, sigma²) for means (batch, *image_shape) and one sigma, a scalar tensor."""

    def __init__(self, mean: torch.Tensor, sigma: torch.Tensor):
        self._mean, self.sigma = mean, sigma

    @property
    def mean(self) -> torch.Tensor:
        return self._mean

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return Normal(self._mean, self.sigma, validate_args=False).log_prob(x).flatten(1).sum(1)

    def sample(self, rng: torch.Generator) -> torch.Tensor:
        noise = torch.randn(self._mean.shape, generator=rng, device=self._mean.device, dtype=self._mean.dtype)
        return self._mean + self.sigma * noise


class GaussianLikelihood(Likelihood):
    """p(x | z) = N(tanh(parameters), σ²).

    A learned σ is min_sigma + (sigma − min_sigma)·exp(r), with a scalar r that is initialised to 0, so σ starts at
    ``sigma``. The lower bound ``min_sigma`` keeps the density of a pixel bounded.

    Args:
        sigma: standard deviation of a pixel given z; pixels are in [−1, 1]. The initial value if it is learned.
        learned: whether σ is learned.
        min_sigma: lower bound of a learned σ.

    Raises:
        SettingError: a learned σ would start at or below its lower bound.
    """

    def __init__(
        self, image_shape: tuple[int, ...], *, sigma: Positive = 0.3, learned: bool = False, min_sigma: Positive = 0.01
    ):
        super().__init__()
        if learned and sigma <= min_sigma:
            raise SettingError(
                f"backbone.likelihood.sigma: is {sigma}; to be learned it must start above min_sigma, {min_sigma}"
            )
        self.image_shape, self.channels = tuple(image_shape), image_shape[0]
        self.initial_sigma, self.min_sigma = sigma, min_sigma
        self.log_excess = nn.Parameter(torch.zeros(())) if learned else None

    @property
    def sigma(self) -> torch.Tensor | float:
        """The present σ, a standard deviation."""
        if self.log_excess is None:
            return self.initial_sigma
        return self.min_sigma + (self.initial_sigma - self.min_sigma) * torch.exp(self.log_excess)

    def forward(self, parameters: torch.Tensor) -> NormalPixels:
        # Created on the device: a copy from the host would synchronise host and GPU at every step of a chain.
        sigma = self.sigma if self.log_excess is not None else parameters.new_full((), self.initial_sigma)
        return NormalPixels(torch.tanh(parameters), sigma)
