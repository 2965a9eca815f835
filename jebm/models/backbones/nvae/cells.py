"""Residual cells: skip(x) + 0.1 · SE(operations(x)). A cell keeps, halves or doubles the size of the map.

If the size is halved, the number of channels is doubled, and vice versa.
"""

from enum import Enum

import torch
from torch import nn
from torch.nn.functional import conv2d, elu, interpolate, pad, silu

from jebm.errors import SettingError
from jebm.models.backbones.nvae.architectures import Bottleneck, Simple
from jebm.models.backbones.nvae.convolutions import Convolution, Dense, NormalisedConvolution

BRANCH_WEIGHT = 0.1
ACTIVATIONS = {"swish": silu, "elu": elu}
SHIFTS = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Offsets (row, column) of the pixels that each part of a halving skip connection takes, with stride 2."""


class Resize(Enum):
    """What a cell does to the height and width of its map."""

    NONE = "none"
    DOWN = "down"
    UP = "up"

    @property
    def stride(self) -> int:
        return 2 if self is Resize.DOWN else 1

    def outputs(self, channels: int) -> int:
        """Number of output channels of a cell."""
        return {Resize.NONE: channels, Resize.DOWN: 2 * channels, Resize.UP: channels // 2}[self]


class BatchNorm(nn.BatchNorm2d):
    """Batch norm with the published constants. In evaluation mode it is one multiply-add, whose gradient, which chains
    compute at every step, takes a tenth of the time of PyTorch's."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-5, momentum=0.05)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training or x.dtype != self.weight.dtype:
            return super().forward(x)
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None])


def repeat_pixels(x: torch.Tensor) -> torch.Tensor:
    """Nearest-neighbour interpolation to twice the size, with a deterministic gradient on every device."""
    batch, channels, height, width = x.shape
    tiled = x[:, :, :, None, :, None].expand(batch, channels, height, 2, width, 2)
    return tiled.reshape(batch, channels, 2 * height, 2 * width)


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a weight in (0, 1), a function of the means of all channels (Hu et al., 2018)."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(channels // 16, 4)
        self.reduce, self.expand = Dense(channels, hidden), Dense(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.sigmoid(self.expand(torch.relu(self.reduce(x.mean((2, 3))))))
        return x * weights[:, :, None, None]


class SimpleOperation(nn.Module):
    """See :class:`Simple`. Upsampling takes place after the activation."""

    def __init__(self, inputs: int, outputs: int, resize: Resize, spec: Simple):
        super().__init__()
        self.spec, self.grows = spec, resize is Resize.UP
        self.activation = ACTIVATIONS[spec.activation]
        self.norm = BatchNorm(inputs) if spec.norm else None
        self.conv = NormalisedConvolution(inputs, outputs, 3, stride=resize.stride, dilation=spec.dilation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(x if self.norm is None else self.norm(x))
        return self.conv(repeat_pixels(x) if self.grows else x)


class BottleneckOperation(nn.Module):
    """See :class:`Bottleneck`. Upsampling is the first operation; downsampling is the stride of the k×k convolution."""

    def __init__(self, inputs: int, outputs: int, resize: Resize, spec: Bottleneck):
        super().__init__()
        hidden, self.grows = spec.expansion * inputs, resize is Resize.UP
        groups = spec.groups or hidden
        if hidden % groups:
            raise SettingError(
                f"backbone.architecture: convolutions in {groups} groups can't divide {hidden} channels; "
                "choose channels that are a multiple of 8"
            )
        self.norm = BatchNorm(inputs)
        self.expand, self.norm_expand = Convolution(inputs, hidden, 1, bias=False), BatchNorm(hidden)
        self.mix = Convolution(hidden, hidden, spec.kernel, stride=resize.stride, groups=groups, bias=False)
        self.norm_mix = BatchNorm(hidden)
        self.project, self.norm_project = Convolution(hidden, outputs, 1, bias=False), BatchNorm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.expand(self.norm(repeat_pixels(x) if self.grows else x))
        x = self.mix(silu(self.norm_expand(x)))
        return self.norm_project(self.project(silu(self.norm_mix(x))))


class ShrinkingSkip(nn.Module):
    """The concatenation of four 1×1 convolutions of swish(x), each on a different quarter of the pixels.

    They are computed as one 2×2 convolution.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        quarter = outputs // 4
        parts = (quarter, quarter, quarter, outputs - 3 * quarter)
        self.convs = nn.ModuleList(NormalisedConvolution(inputs, part, 1, stride=2) for part in parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return conv2d(silu(x), *self._as_one(), stride=2)

    def _as_one(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Filter and bias of the equivalent 2×2 convolution; each output channel has a single non-zero tap."""
        taps = [
            pad(conv.effective_weight(), (column, 1 - column, row, 1 - row))
            for conv, (row, column) in zip(self.convs, SHIFTS, strict=True)
        ]
        return torch.cat(taps), torch.cat([conv.bias for conv in self.convs])


class GrowingSkip(nn.Module):
    """A 1×1 convolution and bilinear interpolation with aligned corners to twice the size.

    The two operations commute because there is no bias, and the convolution is four times cheaper before upsampling.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = NormalisedConvolution(inputs, outputs, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return interpolate(self.conv(x), scale_factor=2, mode="bilinear", align_corners=True)


class Cell(nn.Module):
    """One residual cell.

    Args:
        channels: number of input channels.
        operations: operations of the branch; the first one changes the size.
        resize: change of the size of the map.
        squeeze_excite: whether the branch ends in squeeze-and-excite.
    """

    def __init__(self, channels: int, operations: tuple, resize: Resize, squeeze_excite: bool):
        super().__init__()
        outputs = resize.outputs(channels)
        skips = {Resize.NONE: lambda *_: nn.Identity(), Resize.DOWN: ShrinkingSkip, Resize.UP: GrowingSkip}
        self.resize, self.channels, self.outputs = resize, channels, outputs
        self.skip = skips[resize](channels, outputs)
        self.operations = nn.ModuleList()
        for number, spec in enumerate(operations):
            kind = SimpleOperation if isinstance(spec, Simple) else BottleneckOperation
            sizes = (outputs, outputs, Resize.NONE) if number else (channels, outputs, resize)
            self.operations.append(kind(*sizes, spec))
        self.squeeze = SqueezeExcite(outputs) if squeeze_excite else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = x
        for operation in self.operations:
            branch = operation(branch)
        if self.squeeze is not None:
            branch = self.squeeze(branch)
        return self.skip(x) + BRANCH_WEIGHT * branch
