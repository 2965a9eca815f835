"""The published convolutional model: a Markov hierarchy of latent vectors, and a decoder of transposed convolutions.

The paper's CIFAR-10 experiment (arXiv 2306.06323) has two layers of 128 and 100 dimensions and no inference network.
The inference network here mirrors the decoder by strided convolutions.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils import skip_init

from jebm.config.components import build
from jebm.config.types import Activation, Count, Counts, LayerDims, LikelihoodBlock, Natural, NonNegative, Positive
from jebm.errors import SettingError
from jebm.models.backbones.base import Posterior, TopDown
from jebm.models.backbones.markov import MarkovHierarchy
from jebm.models.likelihoods.base import PixelDistribution
from jebm.models.likelihoods.gaussian import GaussianLikelihood
from jebm.models.nets import activation, initialise, mlp


class ConvolutionalHierarchy(MarkovHierarchy):
    """p(z_i | z_{i+1}) = N(μ(z_{i+1}), σ(z_{i+1})²) by perceptrons, p(x | z_1) by transposed convolutions, and
    q(ε_i | ε_{>i}, x) = N(m, s²) by strided convolutions.

    Args:
        image_shape: (channels, size, size).
        latent_dims: dimensions of each layer, bottom first.
        channels: channels of the decoder's maps, coarsest first. Each map is twice as large as the one before, and the
            last has the size of the image: 8, 16 and 32 pixels for three entries and an image of 32 pixels.
        hidden, depth: units and number of hidden layers of the networks of p(z_i | z_{i+1}).
        activation: activation of all hidden layers.
        min_sigma: lower bound in σ = exp(r) + min_sigma. Unadjusted Langevin dynamics with step size s, a standard
            deviation, in z-space is stable only for σ > s/2. The published bound of 0.01 with s = 0.4 does not ensure
            this; a bound of s/2 or more does.
        sigma_start: factor on the initial exp(r), which is near 1 without it.
        mean_gain: factor on the initial weights of the last layer of each μ.
        inference_features: number of features to which the encoder reduces an image.
        inference_depth: number of hidden layers of each head of q.
        likelihood: p(x | z), parametrised by the decoder's output.

    Raises:
        SettingError: the image is not square, or its size can't be halved as often as ``channels`` requires.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        *,
        latent_dims: LayerDims = [128, 100],  # noqa: B006
        channels: Counts = [1024, 512, 256],  # noqa: B006
        hidden: Count = 200,
        depth: Natural = 4,
        activation: Activation = "leaky-relu",
        min_sigma: NonNegative = 0.01,
        sigma_start: Positive = 1.0,
        mean_gain: Positive = 1.0,
        inference_features: Count = 256,
        inference_depth: Natural = 1,
        likelihood: LikelihoodBlock = {"name": "gaussian"},  # noqa: B006
    ):
        super().__init__()
        coarsest = _coarsest(tuple(image_shape), channels)
        self.image_shape = tuple(image_shape)
        self.latent_shapes = tuple((dims,) for dims in latent_dims)
        self.min_sigma, self.sigma_start, self.mean_gain = min_sigma, sigma_start, mean_gain
        self.generator_nets = nn.ModuleList(
            mlp(above, 2 * dims, hidden, depth, activation) for dims, above in pairwise(latent_dims)
        )
        self.likelihood = build("likelihood", likelihood, self.image_shape)
        self.levels = self.likelihood.levels
        self.decoder = decoder(latent_dims[0], channels, coarsest, self.likelihood.channels, activation)
        self.encoder = encoder(image_shape[0], channels[::-1], coarsest, inference_features, activation)
        known = [inference_features + sum(latent_dims[i + 1 :]) for i in range(len(latent_dims))]
        self.inference_nets = nn.ModuleList(
            mlp(inputs, 2 * dims, hidden, inference_depth, activation)
            for inputs, dims in zip(known, latent_dims, strict=True)
        )

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """PyTorch's default for all layers, then the factors ``mean_gain`` and ``sigma_start``."""
        initialise(self, rng)
        for net, shape in zip(self.generator_nets, self.latent_shapes, strict=False):
            net[-1].weight[: shape[0]] *= self.mean_gain
            net[-1].bias[shape[0] :] += math.log(self.sigma_start)

    def inference_modules(self) -> list[nn.Module]:
        return [self.encoder, self.inference_nets]

    def _conditional(self, layer: int, above: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, raw = self.generator_nets[layer](above).chunk(2, dim=1)
        if not self.min_sigma:
            return mean, raw
        return mean, torch.logaddexp(raw, raw.new_full((), math.log(self.min_sigma)))

    def scale(self, raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.min_sigma:
            return raw, torch.ones_like(raw)
        own = torch.exp(raw)
        sd = own + self.min_sigma  # exp of logaddexp, at a fraction of its cost
        return torch.log(sd), own.div_(sd)

    def pixel_means(self) -> tuple[list[nn.Module], float | torch.Tensor] | None:
        if not isinstance(self.likelihood, GaussianLikelihood):
            return None
        return [self.decoder, nn.Tanh()], self.likelihood.sigma

    def decode(self, top: TopDown) -> PixelDistribution:
        return self.likelihood(self.decoder(top.z[0]))

    def infer(self, x: torch.Tensor, rng: torch.Generator) -> Posterior:
        return self.infer_from(self.encoder(x), rng)


class FromVector(nn.ConvTranspose2d):
    """A transposed convolution of one pixel, (batch, channels) → (batch, channels, kernel, kernel).

    It is computed as a matrix product, which takes a third of the time of the general operation.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:]) + self.bias[:, None, None]


def decoder(latent: int, channels: list[int], coarsest: int, outputs: int, units: str) -> nn.Sequential:
    """(batch, latent) → (batch, outputs, size, size), with size = coarsest · 2^(maps − 1)."""
    layers = [skip_init(FromVector, latent, channels[0], coarsest), activation(units)]
    for before, after in pairwise(channels):
        layers += [skip_init(nn.ConvTranspose2d, before, after, 4, stride=2, padding=1), activation(units)]
    return nn.Sequential(*layers, skip_init(nn.ConvTranspose2d, channels[-1], outputs, 3, stride=1, padding=1))


def encoder(inputs: int, channels: list[int], coarsest: int, features: int, units: str) -> nn.Sequential:
    """The mirror image of the decoder: (batch, inputs, size, size) → (batch, features)."""
    layers = [skip_init(nn.Conv2d, inputs, channels[0], 3, stride=1, padding=1), activation(units)]
    for before, after in pairwise(channels):
        layers += [skip_init(nn.Conv2d, before, after, 4, stride=2, padding=1), activation(units)]
    return nn.Sequential(
        *layers, skip_init(nn.Conv2d, channels[-1], features, coarsest), activation(units), nn.Flatten()
    )


def _coarsest(image_shape: tuple[int, ...], channels: list[int]) -> int:
    """Height and width of the decoder's first map; see :class:`ConvolutionalHierarchy` for the error."""
    halvings = len(channels) - 1
    square = len(image_shape) == 3 and image_shape[1] == image_shape[2]
    if not square or image_shape[1] % 2**halvings:
        raise SettingError(
            f"backbone.channels: {len(channels)} maps, each twice the size of the one before, do not end "
            f"at data of shape {list(image_shape)}; give square images whose size can be halved {halvings} times"
        )
    return image_shape[1] // 2**halvings
