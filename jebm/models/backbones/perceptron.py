"""The plain Markov hierarchy z_L → … → z_1 → x: each layer depends only on the one above, all maps are perceptrons.

Two choices prevent posterior collapse of the upper layer on small data: the conditional prior is initialised narrow
(σ ≈ exp(−limit)), and the weights of its mean are multiplied by a gain, so that z_1 depends on z_2 from the first step
on. With more than two layers the upper layers still collapse.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from jebm.config.components import build
from jebm.config.types import Count, LayerDims, LikelihoodBlock, Positive
from jebm.models.backbones.base import Posterior, TopDown
from jebm.models.backbones.markov import MarkovHierarchy
from jebm.models.likelihoods.base import PixelDistribution
from jebm.models.likelihoods.gaussian import GaussianLikelihood
from jebm.models.nets import initialise, mlp


class PerceptronHierarchy(MarkovHierarchy):
    """p(z_i | z_{i+1}) = N(μ(z_{i+1}), σ(z_{i+1})²), p(x | z_1) by the likelihood of G(z_1), and
    q(ε_i | ε_{>i}, x) = N(m, s²).

    Args:
        image_shape: (channels, height, width).
        latent_dims: dimensions of each layer, bottom first.
        hidden, depth: units and number of hidden layers of every network.
        scale_limit: the bound in log σ = limit·tanh(r/limit) − limit; σ is in (exp(−2·limit), 1).
        mean_gain: factor on the initial weights of the last layer of each μ.
        likelihood: p(x | z), parametrised by the decoder's output.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        *,
        latent_dims: LayerDims,
        hidden: Count = 128,
        depth: Count = 2,
        scale_limit: Positive = 1.5,
        mean_gain: Positive = 3.0,
        likelihood: LikelihoodBlock = {"name": "gaussian"},  # noqa: B006
    ):
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.latent_shapes = tuple((dims,) for dims in latent_dims)
        self.scale_limit, self.mean_gain = scale_limit, mean_gain
        self.min_sigma = math.exp(-2 * scale_limit)
        pixels = math.prod(image_shape)
        above = [sum(latent_dims[i + 1 :]) for i in range(len(latent_dims))]
        self.generator_nets = nn.ModuleList(
            mlp(latent_dims[i + 1], 2 * latent_dims[i], hidden, depth) for i in range(len(latent_dims) - 1)
        )
        self.likelihood = build("likelihood", likelihood, self.image_shape)
        self.levels = self.likelihood.levels
        self.decoder = mlp(latent_dims[0], math.prod(self.likelihood.parameter_shape), hidden, depth)
        self.inference_nets = nn.ModuleList(
            mlp(pixels + above[i], 2 * latent_dims[i], hidden, depth) for i in range(len(latent_dims))
        )

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        initialise(self, rng)
        for net, shape in zip(self.generator_nets, self.latent_shapes, strict=False):
            net[-1].weight[: shape[0]] *= self.mean_gain

    def inference_modules(self) -> list[nn.Module]:
        return [self.inference_nets]

    def _conditional(self, layer: int, above: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation of p(z_layer | z_{layer+1}); ``layer`` counts from 0."""
        mean, raw = self.generator_nets[layer](above).chunk(2, dim=1)
        return mean, self.scale_limit * (torch.tanh(raw / self.scale_limit) - 1)

    def scale(self, raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        bent = torch.tanh(raw / self.scale_limit)
        return self.scale_limit * (bent - 1), 1 - bent.square()

    def pixel_means(self) -> tuple[list[nn.Module], float | torch.Tensor] | None:
        if not isinstance(self.likelihood, GaussianLikelihood):
            return None
        return [self.decoder, nn.Tanh(), nn.Unflatten(1, self.image_shape)], self.likelihood.sigma

    def decode(self, top: TopDown) -> PixelDistribution:
        return self.likelihood(self.decoder(top.z[0]).reshape(-1, *self.likelihood.parameter_shape))

    def infer(self, x: torch.Tensor, rng: torch.Generator) -> Posterior:
        return self.infer_from(x.flatten(1), rng)
