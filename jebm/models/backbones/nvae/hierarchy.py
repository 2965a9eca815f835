"""The deep residual hierarchy: an encoder and a decoder tower of cells, and the latent layers between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import elu, pad

from jebm.config.components import build
from jebm.config.types import CellArchitecture, Count, LayersPerScale, LikelihoodBlock, Natural
from jebm.errors import SettingError
from jebm.models.backbones.base import EMPTY, Hierarchy, Latents, Posterior, TopDown
from jebm.models.backbones.nvae.architectures import ARCHITECTURES
from jebm.models.backbones.nvae.cells import Cell, Resize
from jebm.models.backbones.nvae.checkpointing import apply_cells
from jebm.models.backbones.nvae.convolutions import NormalisedConvolution, initialise_layers
from jebm.models.backbones.nvae.gaussians import FLOOR, LIMIT, Normal
from jebm.models.backbones.nvae.groups import Group, build_groups
from jebm.models.likelihoods.base import PixelDistribution


class GroupDraw(NamedTuple):
    """A draw from q(z_i | z_{>i}, x) and the Gaussians involved; all tensors (batch, latent_channels, size, size)."""

    posterior: Normal
    """The Gaussian of the posterior, before the flows."""
    prior: Normal
    before: torch.Tensor
    """The draw from that Gaussian, before the flows."""
    z: torch.Tensor

    @property
    def eps(self) -> torch.Tensor:
        return self.prior.whiten(self.z)

    def log_q(self) -> torch.Tensor:
        """log q(z_i | z_{>i}, x) of each element, nats; the flows preserve volume."""
        return self.posterior.log_prob(self.before)

    def kl(self, flows: bool) -> torch.Tensor:
        """KL(q ‖ p) of each element, nats: exact without flows, otherwise the estimate log q − log p of this draw."""
        return self.log_q() - self.prior.log_prob(self.z) if flows else self.posterior.kl(self.prior)


class NvaeHierarchy(Hierarchy):
    """p(z_i | z_{>i}) = N(μ(h), σ(h)²) with h the path above z_i, p(x | z) by a likelihood, and q on z with
    optional flows.

    As in published weights, σ of the top layer is 1.01, so T is not the identity there. ``log_q`` is the density of ε.
    Without flows, ``kl`` of a layer is exact given the layers above. **With flows it is a Monte Carlo estimate from one
    draw**, log q(ε_i | ε_{>i}, x) − log N(ε_i; 0, I), which may be negative for single images.

    In training mode batch norm uses the statistics of the batch, so the images of a batch depend on each other. Chains
    and evaluations need evaluation mode (:meth:`eval`).

    Args:
        image_shape: (colours, size, size).
        layers_per_scale: number of latent layers at each scale, finest scale first.
        latent_channels: channels of each latent layer.
        encoder_channels, decoder_channels: channels of the towers at the size of the image; every halving doubles them.
        blocks: number of halvings between the image and the finest scale.
        preprocess_cells, postprocess_cells: number of cells in each of these blocks, in the encoder and in the decoder.
        encoder_cells, decoder_cells: number of cells before each latent layer, in the encoder and in the decoder.
        architecture: the operations inside the cells.
        squeeze_excite: whether the cells end in squeeze-and-excite.
        residual_posterior: whether the parameters of q are offsets to those of the prior.
        flows: number of autoregressive flows of each layer's posterior.
        likelihood: p(x | z), parametrised by the output of the decoder. Published weights have ``bernoulli``,
            ``heteroscedastic-gaussian`` or ``nvae-logistic-mixture``.
        padding: black pixels that are added on each side of the image; the likelihood ignores them.
        checkpointing: recompute the activations inside cells for gradients instead of storing them. The gradients are
            the same, for a fraction of the memory and up to a third more time.

    Raises:
        SettingError: the images can't be halved that often, or do not fit the likelihood.
    """

    has_batch_norm = True
    min_sigma = math.exp(-LIMIT) + FLOOR

    def __init__(
        self,
        image_shape: tuple[int, ...],
        *,
        layers_per_scale: LayersPerScale,
        latent_channels: Count = 20,
        encoder_channels: Count = 32,
        decoder_channels: Count = 32,
        blocks: Natural = 1,
        preprocess_cells: Count = 2,
        postprocess_cells: Count = 2,
        encoder_cells: Count = 2,
        decoder_cells: Count = 2,
        architecture: CellArchitecture = "res_mbconv",
        squeeze_excite: bool = True,
        residual_posterior: bool = True,
        flows: Natural = 0,
        likelihood: LikelihoodBlock = {"name": "gaussian"},  # noqa: B006
        padding: Natural = 0,
        checkpointing: bool = False,
    ):
        super().__init__()
        size = _map_size(tuple(image_shape), padding, blocks, len(layers_per_scale))
        if sum(layers_per_scale) == 1 and encoder_channels != decoder_channels:
            raise SettingError(
                f"backbone.decoder_channels: is {decoder_channels}, encoder_channels {encoder_channels}; "
                "a hierarchy of a single layer needs the same number of both"
            )
        self.image_shape, self.padding, self.checkpointing = tuple(image_shape), padding, checkpointing
        self.has_flows = flows > 0
        self.likelihood = build("likelihood", likelihood, self.image_shape)
        self.levels = self.likelihood.levels
        cells = ARCHITECTURES[architecture]
        self.start = nn.Parameter(
            torch.empty(decoder_channels * 2 ** (blocks + len(layers_per_scale) - 1), *[size] * 2)
        )
        self.stem = NormalisedConvolution(image_shape[0], encoder_channels, 3)
        self.preprocess = nn.ModuleList(
            Cell(encoder_channels * 2**block, cells.preprocess, resize, squeeze_excite)
            for block in range(blocks)
            for resize in [*[Resize.NONE] * (preprocess_cells - 1), Resize.DOWN]
        )
        self.groups = build_groups(
            layers_per_scale, blocks, encoder_channels, decoder_channels, latent_channels, encoder_cells, decoder_cells,
            cells, squeeze_excite, flows, residual_posterior,
        )  # fmt: skip
        widest = self.groups[-1].posterior.in_channels
        self.summit = NormalisedConvolution(widest, widest, 1)
        self.postprocess = nn.ModuleList(
            Cell(decoder_channels * 2**block * (2 if first else 1), cells.postprocess, resize, squeeze_excite)
            for block in reversed(range(blocks))
            for first, resize in [(True, Resize.UP), *[(False, Resize.NONE)] * (postprocess_cells - 1)]
        )
        self.output = NormalisedConvolution(decoder_channels, self.likelihood.channels, 3)
        sizes = [
            size * 2**above
            for above in reversed(range(len(layers_per_scale)))
            for _ in range(layers_per_scale[-1 - above])
        ]
        self.latent_shapes = tuple((latent_channels, side, side) for side in sizes)
        self._context_shapes = tuple(
            (group.take.out_channels, side, side) for group, side in zip(self.groups, sizes, strict=True)
        )

    @property
    def context_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self._context_shapes

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """Weights uniform in ±1/√fan_in, flows near the identity, and ``start`` uniform in (0, 1)."""
        self.start.uniform_(generator=rng)
        initialise_layers(self, rng)
        for group in self.groups:
            for flow in group.flows:
                flow.shrink()

    def requires_grad_(self, requires_grad: bool = True) -> NvaeHierarchy:
        """Make all parameters trainable or not; the filters of frozen layers are cached."""
        for layer in self.modules():
            if isinstance(layer, NormalisedConvolution):
                layer.cache_filters(not requires_grad)
        return super().requires_grad_(requires_grad)

    def inference_modules(self) -> list[nn.Module]:
        return [
            self.stem,
            self.preprocess,
            self.summit,
            *(m for group in self.groups for m in group.inference_modules()),
        ]

    def _path(self, layer: int, above: TopDown, like: torch.Tensor) -> torch.Tensor:
        """The path above layer ``layer`` (0 is the bottom layer); ``like`` gives the batch size."""
        if not above.context:
            return self.start.expand(len(like), *self.start.shape)
        return apply_cells(self.groups[layer].decoder, above.context[0], self.checkpointing)

    def _take(self, layer: int, above: TopDown, path: torch.Tensor, z: torch.Tensor) -> TopDown:
        return TopDown((z, *above.z), (self.groups[layer].advance(path, z), *above.context))

    def descend(self, above: TopDown, eps: torch.Tensor) -> TopDown:
        layer = self.layers - len(above.z) - 1
        path = self._path(layer, above, eps)
        return self._take(layer, above, path, self.groups[layer].conditional(path).transform(eps))

    def conditionals(self, z: Latents) -> tuple[TopDown, tuple[Normal, ...]]:
        """The top-down pass through given latents, and p(z_i | z_{>i}) of each layer, bottom first."""
        top, priors = EMPTY, []
        for layer in reversed(range(self.layers)):
            path = self._path(layer, top, z[layer])
            priors.append(self.groups[layer].conditional(path))
            top = self._take(layer, top, path, z[layer])
        return top, tuple(priors[::-1])

    def condition(self, z: Latents) -> tuple[TopDown, torch.Tensor]:
        top, priors = self.conditionals(z)
        terms = [prior.log_prob(value).flatten(1).sum(1) for prior, value in zip(priors, z, strict=True)]
        return top, torch.stack(terms, 1)

    def maps(self, top: TopDown) -> torch.Tensor:
        """The decoder's output for the padded image, (batch, channels of the likelihood, size, size)."""
        return self.output(elu(apply_cells(self.postprocess, top.context[0], self.checkpointing)))

    def decode(self, top: TopDown) -> PixelDistribution:
        maps = self.maps(top)
        return self.likelihood(pad(maps, [-self.padding] * 4) if self.padding else maps)

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The encoder's features of images at each layer, bottom first: (batch, channels, size, size)."""
        x = pad(x, [self.padding] * 4, value=-1.0) if self.padding else x
        h, features = apply_cells(self.preprocess, self.stem(x), self.checkpointing), []
        for group in self.groups:
            h = apply_cells(group.encoder, h, self.checkpointing)
            features.append(h)
        features[-1] = elu(self.summit(elu(h)))
        return features

    def draw_posterior(
        self, x: torch.Tensor, noise: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[TopDown, tuple[GroupDraw, ...]]:
        """The top-down pass of a draw from q(z | x), and the draw of each layer, bottom first.

        Args:
            noise: returns standard normal numbers of the shape of a tensor; called for the top layer first.
        """
        features, top, draws = self.features(x), EMPTY, []
        for layer in reversed(range(self.layers)):
            group: Group = self.groups[layer]
            path = self._path(layer, top, x)
            posterior, prior = group.infer(features[layer], path)
            before = posterior.transform(noise(posterior.mean))
            draws.append(GroupDraw(posterior, prior, before, group.flow(before)))
            top = self._take(layer, top, path, draws[-1].z)
        return top, tuple(draws[::-1])

    def infer(self, x: torch.Tensor, rng: torch.Generator) -> Posterior:
        def noise(like: torch.Tensor) -> torch.Tensor:
            return torch.randn(like.shape, generator=rng, device=like.device, dtype=like.dtype)

        return self.whitened(*self.draw_posterior(x, noise))

    def whitened(self, top: TopDown, draws: tuple[GroupDraw, ...]) -> Posterior:
        """The draw from q(z | x) as a draw from q(ε | x), as :meth:`infer` returns it."""
        # q(ε) = q(z) dz/dε, and dz/dε is σ of the prior.
        log_q = [(draw.log_q() + torch.log(draw.prior.sigma)).flatten(1).sum(1) for draw in draws]
        kl = [draw.kl(self.has_flows).flatten(1).sum(1) for draw in draws]
        return Posterior(tuple(draw.eps for draw in draws), top, torch.stack(log_q, 1), torch.stack(kl, 1))


def _map_size(image_shape: tuple[int, ...], padding: int, blocks: int, scales: int) -> int:
    """Height and width of the maps at the coarsest scale.

    Raises:
        SettingError: the image is not square, or can't be halved that often.
    """
    if len(image_shape) != 3 or image_shape[1] != image_shape[2]:
        raise SettingError(
            f"backbone.name: 'nvae' needs square images, not data of shape {list(image_shape)}; "
            "use 'residual' or 'perceptron'"
        )
    size, factor = image_shape[1] + 2 * padding, 2 ** (blocks + scales - 1)
    if size % factor:
        padded = f" (with padding {size})" if padding else ""
        raise SettingError(
            f"backbone.layers_per_scale: {scales} scales after {blocks} halvings need images whose size is a "
            f"multiple of {factor}, not {image_shape[1]}{padded}; give fewer scales or blocks, or set padding"
        )
    return size // factor
