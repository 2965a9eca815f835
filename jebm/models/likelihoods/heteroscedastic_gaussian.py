"""Independent normal pixels, each with a mean and a standard deviation of its own, as published NVAE weights have them.

The likelihood ``gaussian`` has one standard deviation for all pixels.
"""

import torch

from jebm.config.types import LogSigma
from jebm.models.backbones.nvae.gaussians import FLOOR, Normal, soft_clamp
from jebm.models.likelihoods.base import Likelihood, NvaePixels


class GaussianPixels(NvaePixels):
    """N(mean, sigma²) for every channel of every pixel: a *density*, not a mass on levels. The mean may exceed ±1.

    Args:
        min_log_sigma: lower bound of log σ in ``log_prob`` only. −5 has no effect; −2 is the likelihood that VAEBM
            reports, which differs from the one its backbone was trained with.
    """

    def __init__(self, maps: torch.Tensor, colours: int, min_log_sigma: float = -5.0):
        super().__init__(maps, colours)
        self.normal = Normal.from_raw(*self.maps.chunk(2, dim=1))
        floor = soft_clamp(self.maps.chunk(2, dim=1)[1]).clamp(min=min_log_sigma)
        self.for_density = Normal(self.normal.mean, torch.exp(floor) + FLOOR)

    @property
    def mean(self) -> torch.Tensor:
        return self.normal.mean

    def element_log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return self.for_density.log_prob(x)

    def sample(self, rng: torch.Generator, temperature: float = 1.0) -> torch.Tensor:
        mean = self.normal.mean
        noise = torch.randn(mean.shape, generator=rng, device=mean.device, dtype=mean.dtype)
        return self.normal.transform(noise).clamp(-1, 1)


class HeteroscedasticGaussian(Likelihood):
    """p(x | z) = N(μ, σ²) with a mean and a σ for every channel of every pixel, both from the decoder.

    Args:
        min_log_sigma: lower bound of log σ in log p(x | z) only; −5 has no effect.
    """

    def __init__(self, image_shape: tuple[int, ...], *, min_log_sigma: LogSigma = -5.0):
        super().__init__()
        self.image_shape, self.channels, self.min_log_sigma = tuple(image_shape), 2 * image_shape[0], min_log_sigma

    def forward(self, parameters: torch.Tensor) -> GaussianPixels:
        return GaussianPixels(parameters, self.image_shape[0], self.min_log_sigma)
