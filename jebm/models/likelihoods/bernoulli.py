"""Binary pixels, as published NVAE weights have them (Vahdat and Kautz, 2020)."""

import torch
from torch.nn.functional import softplus

from jebm.models.likelihoods.base import Likelihood, NvaePixels


class BernoulliPixels(NvaePixels):
    """Pixels that are −1 or 1; the maps are the logits of 1. Other values give the cross-entropy with (x + 1) / 2."""

    @property
    def mean(self) -> torch.Tensor:
        return 2 * torch.sigmoid(self.maps) - 1

    def element_log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * (x + 1) * self.maps - softplus(self.maps)

    def sample(self, rng: torch.Generator, temperature: float = 1.0) -> torch.Tensor:
        return 2 * torch.bernoulli(torch.sigmoid(self.maps / temperature), generator=rng) - 1


class BernoulliLikelihood(Likelihood):
    """p(x | z) of binary pixels, −1 or 1; the parameters are the logits of 1."""

    def __init__(self, image_shape: tuple[int, ...]):
        super().__init__()
        self.image_shape, self.channels = tuple(image_shape), image_shape[0]

    def forward(self, parameters: torch.Tensor) -> BernoulliPixels:
        return BernoulliPixels(parameters, self.image_shape[0])
