"""Convolutions with weight norm and masks, and layers that do not initialise their weights when they are constructed.

PyTorch's layers draw their weights from the global random number generator at construction. Here
:meth:`NvaeHierarchy.initialise` draws them from an explicit one.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import torch
from torch import nn
from torch.nn.functional import conv2d, linear

NORM_EPSILON = 1e-5
INITIAL_EPSILON = 1e-2


class Dense(nn.Linear):
    """A linear layer without default initialisation."""

    def reset_parameters(self) -> None:
        """Does nothing; see the docstring of the module."""


class Convolution(nn.Conv2d):
    """A convolution with padding such that the size is divided by the stride, without default initialisation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        padding = dilation * (kernel - 1) // 2
        super().__init__(
            inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias
        )

    def reset_parameters(self) -> None:
        """Does nothing; see the docstring of the module."""

    def effective_weight(self) -> torch.Tensor:
        """The filters of the convolution, (outputs, inputs / groups, kernel, kernel)."""
        return self.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, padding = self.effective_weight(), self.padding
        # On a map that is smaller than the filter, the outer taps see only padding and are cut off.
        full, dilation = self.kernel_size[0] // 2, self.dilation[0]
        reach = min(full, (max(x.shape[2:]) - 1) // dilation)
        if reach < full:
            seen = slice(full - reach, full + reach + 1)
            weight, padding = weight[:, :, seen, seen], dilation * reach
        if self.groups == 1 and x.shape[2] == x.shape[3] <= 2 and dilation == 1:
            return dense(x, weight, self.bias, self.stride[0])
        return conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)


def dense(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: int) -> torch.Tensor:
    """A convolution of a map of few pixels, computed as one linear map at a fraction of the cost.

    Args:
        x: (batch, inputs, size, size).
        weight: (outputs, inputs, kernel, kernel) with odd kernel; the padding is kernel // 2.
        stride: divisor of the size, which is rounded up.
    """
    size, outputs = x.shape[2], len(weight)
    if size == 1:
        return linear(x.flatten(1), weight.flatten(1), bias)[:, :, None, None]
    smaller = -(-size // stride)
    taps = _taps(weight.shape[2], size, stride).to(
        weight
    )  # a product with 0s and 1s, because indexing has a slow gradient
    matrix = (weight.flatten(2) @ taps).reshape(outputs, -1, smaller**2, size**2).transpose(1, 2)
    out = linear(x.flatten(1), matrix.reshape(outputs * smaller**2, -1))
    out = out.reshape(len(x), outputs, smaller, smaller)
    return out if bias is None else out + bias[:, None, None]


@cache
def _taps(kernel: int, size: int, stride: int) -> torch.Tensor:
    """1 where a tap connects an output pixel with an input pixel, (taps, outputs · inputs), all in raster order."""
    smaller = -(-size // stride)
    led = torch.zeros(kernel, kernel, smaller, smaller, size, size)
    for row, column, to_row, to_column in product(range(smaller), range(smaller), range(size), range(size)):
        tap = to_row - stride * row + kernel // 2, to_column - stride * column + kernel // 2
        if all(0 <= place < kernel for place in tap):
            led[(*tap, row, column, to_row, to_column)] = 1
    return led.reshape(kernel**2, -1)


class NormalisedConvolution(Convolution):
    """Weight norm: the filter of an output channel is exp(log_gain) · v / (‖v‖ + 1e-5), v its ``weight``.

    A chain applies the same filters thousands of times. After :meth:`cache_filters` they are computed once and cached
    until a weight changes.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, **settings):
        super().__init__(inputs, outputs, kernel, **settings)
        self.log_gain = nn.Parameter(torch.empty(outputs, 1, 1, 1))
        self._cached: CachedFilters | None = None

    def cache_filters(self, enabled: bool) -> None:
        """Enable or disable caching of the filters; it must be disabled before the weights are trained.

        The cache is cleared when a weight is modified, replaced or moved. The first call with a trainable weight
        disables it, because PyTorch's fused optimisers modify weights without increasing their version counters.
        """
        self._cached = CachedFilters() if enabled else None

    def _apply(self, *args, **kwargs):
        """Called by PyTorch to move or convert the weights; clears the cache."""
        self._cached = self._cached and CachedFilters()
        return super()._apply(*args, **kwargs)

    def direction(self) -> torch.Tensor:
        """v, of the shape of ``weight``."""
        return self.weight

    def effective_weight(self) -> torch.Tensor:
        if self._cached is None:
            return self._filters()
        if self.weight.requires_grad or self.log_gain.requires_grad:
            self._cached = None
            return self.effective_weight()
        sources = (self.weight, self.log_gain)
        if not self._cached.are_valid_for(sources):
            with torch.no_grad():
                self._cached.store(sources, self._filters())
        return self._cached.filters

    def _filters(self) -> torch.Tensor:
        return WeightNorm.apply(self.direction(), self.log_gain)

    @torch.no_grad()
    def initialise_gain(self) -> None:
        """Set the gains such that the filters are nearly equal to ``weight``."""
        self.log_gain.copy_(torch.log(_norms(self.direction()) + INITIAL_EPSILON))


class WeightNorm(torch.autograd.Function):
    """(v, log_gain) ↦ w = s·v with s = exp(log_gain) / (‖v‖ + 1e-5) for each output channel; once differentiable.

    The explicit gradient takes a third of the time of autograd's, and a deep hierarchy has dozens of these layers. With
    g the gradient with respect to w, the gradient with respect to log_gain is s⟨g, v⟩, and with respect to v it is
    s·g − s⟨g, v⟩ / (‖v‖ (‖v‖ + 1e-5)) · v.
    """

    @staticmethod
    def forward(ctx, v: torch.Tensor, log_gain: torch.Tensor) -> torch.Tensor:
        norms = _norms(v)
        scale = torch.exp(log_gain) / (norms + NORM_EPSILON)
        ctx.save_for_backward(v, norms, scale)
        return v * scale

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        v, norms, scale = ctx.saved_tensors
        of_log_gain = (gradient * v).sum((1, 2, 3), keepdim=True).mul_(scale)
        # Where v is 0, ⟨g, v⟩ is 0 too; the lower bound of the divisor avoids 0 / 0.
        along = of_log_gain / (norms * (norms + NORM_EPSILON)).clamp_min(torch.finfo(norms.dtype).tiny)
        return torch.addcmul(gradient * scale, v, along, value=-1), of_log_gain


class CachedFilters:
    """Filters, with references to the tensors they were computed from and their versions. A copy starts empty."""

    def __init__(self):
        self.sources, self.versions, self.filters = (), (), None

    def store(self, sources: tuple[torch.Tensor, ...], filters: torch.Tensor) -> None:
        self.sources, self.versions, self.filters = sources, _versions(sources), filters

    def are_valid_for(self, sources: tuple[torch.Tensor, ...]) -> bool:
        """Whether the filters were computed from these tensors, and none was modified since."""
        same = len(sources) == len(self.sources) and all(a is b for a, b in zip(sources, self.sources, strict=True))
        return same and _versions(sources) == self.versions

    def __reduce__(self):
        return CachedFilters, ()


def _versions(tensors: tuple[torch.Tensor, ...]) -> tuple[int, ...]:
    """The version counter of each tensor, which PyTorch increases with every modification in place."""
    return tuple(tensor._version for tensor in tensors)


class MaskedConvolution(NormalisedConvolution):
    """An autoregressive convolution: an output depends only on inputs that are not later in raster order.

    At each pixel the latent channels are ordered. If there are more inputs or outputs than latent channels, equal
    blocks of them belong to each latent channel.

    Args:
        mirrored: whether the order of rows and columns is reversed; the order of the channels is not.
        zero_diagonal: whether an output is also independent of its own latent channel at its own pixel.
    """

    def __init__(self, inputs, outputs, kernel, *, mirrored: bool = False, zero_diagonal: bool = False, **settings):
        super().__init__(inputs, outputs, kernel, **settings)
        mask = raster_mask(inputs, outputs, kernel, self.groups, zero_diagonal)
        self.register_buffer("mask", mask.flip(2, 3) if mirrored else mask, persistent=False)

    def direction(self) -> torch.Tensor:
        return self.weight * self.mask


def raster_mask(inputs: int, outputs: int, kernel: int, groups: int, zero_diagonal: bool) -> torch.Tensor:
    """The mask of a filter, (outputs, inputs / groups, kernel, kernel).

    It is 1 for pixels above, for pixels to the left, and, at the same pixel, for channels that are not later (with
    ``zero_diagonal``: earlier). Depthwise filters see their own channel.
    """
    centre = kernel // 2
    mask = torch.zeros(outputs, inputs // groups, kernel, kernel)
    mask[:, :, :centre] = 1
    mask[:, :, centre, :centre] = 1
    if groups == 1:
        latents = min(inputs, outputs)
        source = torch.arange(inputs) // (inputs // latents)
        target = torch.arange(outputs) // (outputs // latents)
        allowed = source[None] < target[:, None] if zero_diagonal else source[None] <= target[:, None]
        mask[:, :, centre, centre] = allowed.to(mask)
    else:
        mask[:, :, centre, centre] = 1
    return mask


def _norms(v: torch.Tensor) -> torch.Tensor:
    """‖v‖₂ of each output channel, (outputs, 1, 1, 1)."""
    return torch.linalg.vector_norm(v, dim=(1, 2, 3), keepdim=True)


@torch.no_grad()
def initialise_layers(module: nn.Module, rng: torch.Generator) -> None:
    """Initialise all layers of a module: weights and biases uniformly in ±1/√fan_in, gains such that filters are nearly
    the weights, batch norm as the identity with reset statistics."""
    for layer in module.modules():
        if isinstance(layer, Dense | Convolution):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            layer.weight.uniform_(-bound, bound, generator=rng)
            if layer.bias is not None:
                layer.bias.uniform_(-bound, bound, generator=rng)
        if isinstance(layer, NormalisedConvolution):
            layer.initialise_gain()
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
