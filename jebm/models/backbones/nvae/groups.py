"""One latent layer (a group, in NVAE's terms): its encoder and decoder cells, prior and posterior."""

import torch
from torch import nn
from torch.nn.functional import elu

from jebm.models.backbones.nvae.architectures import Architecture
from jebm.models.backbones.nvae.cells import Cell, Resize
from jebm.models.backbones.nvae.convolutions import NormalisedConvolution
from jebm.models.backbones.nvae.flows import Flow
from jebm.models.backbones.nvae.gaussians import Normal


class Group(nn.Module):
    """The modules of one latent layer.

    Args:
        encoder_channels, decoder_channels: channels of the encoder's features and of the decoder's path at this layer.
        latent_channels: channels of the latent.
        encoder, decoder: encoder cells between the layer below and this one, decoder cells between the layer above and
            this one.
        top: whether it is the top layer, whose prior is fixed and whose posterior has no path above.
        alone: whether it is the only layer of the hierarchy; its path then is a function of its latent alone.
        flows: number of flows of the posterior.
        residual: whether the posterior's raw parameters are added to the prior's.
    """

    def __init__(
        self,
        encoder_channels: int,
        decoder_channels: int,
        latent_channels: int,
        encoder: list[Cell],
        decoder: list[Cell],
        *,
        top: bool,
        alone: bool,
        flows: int,
        residual: bool,
    ):
        super().__init__()
        self.residual, self.alone = residual, alone
        double = 2 * latent_channels
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        self.merge = None if top else NormalisedConvolution(decoder_channels, encoder_channels, 1)
        self.posterior = NormalisedConvolution(encoder_channels, double, 3)
        self.prior = None if top else NormalisedConvolution(decoder_channels, double, 1)
        self.flows = nn.ModuleList(Flow(latent_channels) for _ in range(flows))
        inputs = latent_channels if alone else decoder_channels + latent_channels
        self.take = NormalisedConvolution(inputs, decoder_channels, 1)

    def raw_prior(self, path: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw mean and log σ of p(z_i | z_{>i}), (batch, latent_channels, size, size); zeros at the top."""
        if self.prior is None:
            zero = path.new_zeros(len(path), self.posterior.out_channels // 2, *path.shape[2:])
            return zero, zero
        return self.prior(elu(path)).chunk(2, dim=1)

    def conditional(self, path: torch.Tensor) -> Normal:
        """p(z_i | z_{>i}), as a function of the path."""
        return Normal.from_raw(*self.raw_prior(path))

    def infer(self, features: torch.Tensor, path: torch.Tensor) -> tuple[Normal, Normal]:
        """q(z_i | z_{>i}, x) without its flows, and p(z_i | z_{>i})."""
        raw_prior = self.raw_prior(path)
        raw = self.posterior(features if self.merge is None else features + self.merge(path)).chunk(2, dim=1)
        if self.residual:
            raw = tuple(of_prior + own for of_prior, own in zip(raw_prior, raw, strict=True))
        return Normal.from_raw(*raw), Normal.from_raw(*raw_prior)

    def flow(self, z: torch.Tensor) -> torch.Tensor:
        """Transform a draw from the Gaussian to a draw from the posterior."""
        for flow in self.flows:
            z = flow(z)
        return z

    def advance(self, path: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The path after z_i was added."""
        z = z.to(path.dtype)
        return self.take(z if self.alone else torch.cat([path, z], dim=1))

    def inference_modules(self) -> list[nn.Module]:
        """The modules that only q(z | x) uses."""
        return [self.encoder, self.posterior, self.flows, *([] if self.merge is None else [self.merge])]


def build_groups(
    counts: list[int],
    blocks: int,
    encoder_channels: int,
    decoder_channels: int,
    latent_channels: int,
    encoder_cells: int,
    decoder_cells: int,
    architecture: Architecture,
    squeeze_excite: bool,
    flows: int,
    residual: bool,
) -> nn.ModuleList:
    """All latent layers, bottom first.

    Args:
        counts: number of layers at each scale, finest scale first.
        blocks: number of halvings between the image and the finest scale.
        encoder_channels, decoder_channels: channels at the size of the image; every halving doubles them.
    """
    scales = [scale for scale, count in enumerate(counts) for _ in range(count)]
    alone = len(scales) == 1

    def cells(channels: int, count: int, operations: tuple) -> list[Cell]:
        return [Cell(channels, operations, Resize.NONE, squeeze_excite) for _ in range(0 if alone else count)]

    def resizing(channels: int, operations: tuple, resize: Resize, moves: bool) -> list[Cell]:
        return [Cell(channels, operations, resize, squeeze_excite)] if moves else []

    groups = []
    for number, scale in enumerate(scales):
        up, down = encoder_channels * 2 ** (blocks + scale), decoder_channels * 2 ** (blocks + scale)
        coarser = number > 0 and scales[number - 1] < scale
        finer = number + 1 < len(scales) and scales[number + 1] > scale
        top = number + 1 == len(scales)
        encoder = resizing(up // 2, architecture.encoder, Resize.DOWN, coarser)
        decoder = resizing(2 * down, architecture.decoder, Resize.UP, finer)
        groups.append(
            Group(
                up,
                down,
                latent_channels,
                encoder + cells(up, encoder_cells, architecture.encoder),
                decoder + ([] if top else cells(down, decoder_cells, architecture.decoder)),
                top=top,
                alone=alone,
                flows=flows,
                residual=residual,
            )
        )
    return nn.ModuleList(groups)
