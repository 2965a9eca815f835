"""A residual top-down hierarchy: a deterministic path h to which every layer adds its latent.

Prior and posterior of z_i are functions of the path above it. The information of the layers above reaches the decoder
through the path and not through z_i, so the upper layers do not collapse as in a plain Markov hierarchy. The
inference network of all layers shares one bottom-up pass (Sønderby et al., 2016; Vahdat and Kautz, 2020). A scale of
resolution 1 is a multilayer perceptron; finer scales are convolutional.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import silu
from torch.nn.utils import skip_init

from jebm.config.components import build
from jebm.config.types import (
    Count,
    CountPerScale,
    Dropout,
    LayersPerScale,
    LikelihoodBlock,
    NonNegative,
    Resolutions,
)
from jebm.errors import SettingError
from jebm.models.backbones.base import (
    Hierarchy,
    Latents,
    Posterior,
    TopDown,
    kl_to_standard_normal,
    normal_log_prob,
)
from jebm.models.likelihoods.base import PixelDistribution
from jebm.models.nets import initialise

Shape = tuple[int, int, int]


class Map(nn.Module):
    """A linear map between feature maps (channels, size, size): dense if one size is 1, otherwise a convolution.

    The size is reduced by a stride and increased by repeating pixels.
    """

    def __init__(self, source: Shape, target: Shape, kernel: int = 3):
        super().__init__()
        self.target, ratio = target, source[1] / target[1]
        self.dense = source[1] == 1 or target[1] == 1
        if self.dense:
            self.layer = skip_init(nn.Linear, math.prod(source), math.prod(target))
            return
        self.repeat = target[1] // source[1] if ratio < 1 else 1
        stride = int(ratio) if ratio > 1 else 1
        self.layer = skip_init(nn.Conv2d, source[0], target[0], kernel, stride=stride, padding=kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.dense:
            out = self.layer(x.flatten(1))
            return out if self.target[1] == 1 else out.reshape(-1, *self.target)
        if self.repeat > 1:
            x = x.repeat_interleave(self.repeat, 2).repeat_interleave(self.repeat, 3)
        return self.layer(x)


class Block(nn.Module):
    """One residual block: h + b(silu(a(silu(h))))."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.a, self.b = Map(shape, shape), Map(shape, shape)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.b(silu(self.a(silu(h))))


class LatentLayer(nn.Module):
    """The modules of one latent layer: heads of prior and posterior, the map of z_i to the path, residual blocks."""

    def __init__(self, shape: Shape, latent: Shape, above: Shape | None, blocks: int, inference_hidden: int):
        super().__init__()
        double, hidden = (2 * latent[0], *latent[1:]), (inference_hidden, *latent[1:])
        self.entry = Map(above, shape) if above else None
        self.prior = Map(shape, double)
        self.inference_path = Map(shape, hidden)
        self.inference_features = Map(shape, hidden)
        self.inference_head = Map(hidden, double)
        self.take = Map(latent, shape)
        self.blocks = nn.Sequential(*(Block(shape) for _ in range(blocks)))

    def to_own_shape(self, h: torch.Tensor) -> torch.Tensor:
        """The path h of the layer above, mapped to the shape of this layer's path."""
        return h if self.entry is None else self.entry(silu(h))

    def conditional(self, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation, in (−2, 2), of p(z_i | z_{>i})."""
        mean, raw = self.prior(silu(h)).chunk(2, dim=1)
        return mean, 2 * torch.tanh(raw / 2)

    def posterior(self, h: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation of q(ε_i | ε_{>i}, x)."""
        joined = self.inference_path(silu(h)) + self.inference_features(features)
        return self.inference_head(silu(joined)).chunk(2, dim=1)

    def advance(self, h: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The path after z_i was added: the context of this layer."""
        return self.blocks(h + self.take(z))


class ResidualHierarchy(Hierarchy):
    """p(z_i | z_{>i}) = N(μ(h), σ(h)²) with h the path above z_i, p(x | z) by the likelihood of G(h_1), and a
    Gaussian q on ε.

    Args:
        image_shape: (channels, height, width), or any shape if all resolutions are 1.
        layers_per_scale: number of latent layers at each scale, finest scale first.
        resolutions: height and width of the maps at each scale; 1 stands for vectors.
        channels: channels of the path at each scale.
        latent_channels: channels of each latent layer.
        blocks: number of residual blocks after each latent layer.
        inference_hidden: channels of the hidden layer of q(ε_i | ε_{>i}, x).
        dropout: probability of dropping a bottom-up feature, in training only.
        noise: standard deviation of Gaussian noise on the input of the inference network, in training only.
        likelihood: p(x | z), parametrised by the output of G.
    """

    min_sigma = math.exp(-2)

    def __init__(
        self,
        image_shape: tuple[int, ...],
        *,
        layers_per_scale: LayersPerScale,
        latent_channels: Count,
        resolutions: Resolutions = [1],  # noqa: B006
        channels: CountPerScale = [128],  # noqa: B006
        blocks: Count = 1,
        inference_hidden: Count = 64,
        dropout: Dropout = 0.0,
        noise: NonNegative = 0.0,
        likelihood: LikelihoodBlock = {"name": "gaussian"},  # noqa: B006
    ):
        super().__init__()
        _check(tuple(image_shape), resolutions)
        self.image_shape = tuple(image_shape)
        self.dropout, self.noise = dropout, noise
        scales = [(c, r, r) for c, r in zip(channels, resolutions, strict=True)]
        shapes = [scale for scale, count in zip(scales, layers_per_scale, strict=True) for _ in range(count)]
        self._context_shapes = tuple(_squeeze(shape) for shape in shapes)
        self.latent_shapes = tuple(_squeeze((latent_channels, *shape[1:])) for shape in shapes)
        self.scale_of = [i for i, count in enumerate(layers_per_scale) for _ in range(count)]
        above = [next_ if next_ != own else None for own, next_ in zip(shapes, [*shapes[1:], shapes[-1]], strict=True)]
        self.latent_layers = nn.ModuleList(
            LatentLayer(shape, (latent_channels, *shape[1:]), up, blocks, inference_hidden)
            for shape, up in zip(shapes, above, strict=True)
        )
        self.start = nn.Parameter(torch.empty(_squeeze(shapes[-1])))
        image = image_shape if len(image_shape) == 3 else (math.prod(image_shape), 1, 1)
        self.stem = nn.ModuleList(Map(*pair) for pair in zip([image, *scales[:-1]], scales, strict=True))
        self.bottom_up = nn.ModuleList(Block(scale) for scale in scales)
        self.likelihood = build("likelihood", likelihood, self.image_shape)
        self.levels = self.likelihood.levels
        self.head = Map(scales[0], (math.prod(self.likelihood.parameter_shape) // math.prod(image[1:]), *image[1:]))

    @property
    def context_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self._context_shapes

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """PyTorch's default, but smaller weights of prior heads and residual branches, for stability."""
        initialise(self, rng)
        self.start.normal_(generator=rng)
        for module in self.latent_layers:
            module.prior.layer.weight *= 0.3
            for block in module.blocks:
                block.b.layer.weight *= len(self.latent_layers) ** -0.5

    def inference_modules(self) -> list[nn.Module]:
        own = [(layer.inference_path, layer.inference_features, layer.inference_head) for layer in self.latent_layers]
        return [self.stem, self.bottom_up, *(module for modules in own for module in modules)]

    def _path(self, layer: int, h: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        """The path above a layer (0 is the bottom), given the context of the layer above; ``like`` gives the batch."""
        if h is None:
            return self.start.expand(len(like), *self.start.shape)
        return self.latent_layers[layer].to_own_shape(h)

    def descend(self, above: TopDown, eps: torch.Tensor) -> TopDown:
        layer = self.layers - len(above.z) - 1
        h = self._path(layer, above.context[0] if above.context else None, eps)
        mean, log_sd = self.latent_layers[layer].conditional(h)
        z = mean + torch.exp(log_sd) * eps
        return TopDown((z, *above.z), (self.latent_layers[layer].advance(h, z), *above.context))

    def condition(self, z: Latents) -> tuple[TopDown, torch.Tensor]:
        h, terms, context = None, [], []
        for layer in reversed(range(self.layers)):
            h = self._path(layer, h, z[layer])
            terms.append(normal_log_prob(z[layer], *self.latent_layers[layer].conditional(h)))
            h = self.latent_layers[layer].advance(h, z[layer])
            context.append(h)
        return TopDown(z, tuple(context[::-1])), torch.stack(terms[::-1], 1)

    def decode(self, top: TopDown) -> PixelDistribution:
        out = self.head(silu(top.context[0]))
        return self.likelihood(out.reshape(-1, *self.likelihood.parameter_shape))

    def _features(self, x: torch.Tensor, rng: torch.Generator) -> list[torch.Tensor]:
        """The bottom-up features of each scale, finest first."""
        if self.training and self.noise:
            x = x + self.noise * torch.randn(x.shape, generator=rng, device=x.device)
        features, h = [], x
        for stem, block in zip(self.stem, self.bottom_up, strict=True):
            h = block(stem(h))
            features.append(silu(h))
        return features

    def _drop(self, features: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        if not (self.training and self.dropout):
            return features
        mask = torch.rand(features.shape, generator=rng, device=features.device) >= self.dropout
        return features * mask / (1 - self.dropout)

    def infer(self, x: torch.Tensor, rng: torch.Generator) -> Posterior:
        features = self._features(x, rng)
        h, eps, z, context, log_q, kl = None, [], [], [], [], []
        for layer in reversed(range(self.layers)):
            module = self.latent_layers[layer]
            h = self._path(layer, h, x)
            mean, log_sd = module.posterior(h, self._drop(features[self.scale_of[layer]], rng))
            noise = torch.randn(mean.shape, generator=rng, device=mean.device)
            eps.append(mean + torch.exp(log_sd) * noise)
            log_q.append(normal_log_prob(eps[-1], mean, log_sd))
            kl.append(kl_to_standard_normal(mean, log_sd))
            prior_mean, prior_log_sd = module.conditional(h)
            z.append(prior_mean + torch.exp(prior_log_sd) * eps[-1])
            h = module.advance(h, z[-1])
            context.append(h)
        top = TopDown(tuple(z[::-1]), tuple(context[::-1]))
        return Posterior(tuple(eps[::-1]), top, torch.stack(log_q[::-1], 1), torch.stack(kl[::-1], 1))


def _check(image_shape: tuple[int, ...], resolutions: list[int]) -> None:
    """Refuse (SettingError) images whose size is no multiple of the finest map; vectors take any shape."""
    finest = resolutions[0]
    if finest > 1 and (len(image_shape) != 3 or image_shape[1] != image_shape[2] or image_shape[1] % finest):
        raise SettingError(
            f"backbone.resolutions: maps of size {finest} do not tile data of shape {list(image_shape)}; "
            "give a divisor of the size of a square image, or [1] for vectors"
        )


def _squeeze(shape: Shape) -> tuple[int, ...]:
    """The shape of a map, without height and width if both are 1."""
    return shape[:1] if shape[1] == 1 else shape
