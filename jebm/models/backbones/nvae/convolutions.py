"""Convolutions and their effective filters, and layers that draw no random numbers when they are built.

PyTorch's layers initialise themselves from the global stream when they are made. These leave their weights as they
are: :meth:`NvaeHierarchy.initialise` sets them from an explicit generator, and on the meta device there is nothing to
set.
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
    """A linear layer, not initialised."""

    def reset_parameters(self) -> None:
        """Nothing: see the module."""


class Convolution(nn.Conv2d):
    """A convolution that keeps the size of the map (or divides it by the stride), not initialised."""

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
        """Nothing: see the module."""

    def effective_weight(self) -> torch.Tensor:
        """The filters that are applied, (outputs, inputs / groups, kernel, kernel)."""
        return self.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, padding = self.effective_weight(), self.padding
        # On a map smaller than the filter the outer taps see nothing but padding, and are left out.
        full, dilation = self.kernel_size[0] // 2, self.dilation[0]
        reach = min(full, (max(x.shape[2:]) - 1) // dilation)
        if reach < full:
            seen = slice(full - reach, full + reach + 1)
            weight, padding = weight[:, :, seen, seen], dilation * reach
        if self.groups == 1 and x.shape[2] == x.shape[3] <= 2 and dilation == 1:
            return dense(x, weight, self.bias, self.stride[0])
        return conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)


def dense(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: int) -> torch.Tensor:
    """A convolution of a map of a few pixels as one linear map, at a small part of its cost.

    Args:
        x: (batch, inputs, size, size).
        weight: (outputs, inputs, kernel, kernel) with an odd kernel, of a convolution that keeps the size.
        stride: divides the size of the map, which is rounded up.
    """
    size, outputs = x.shape[2], len(weight)
    if size == 1:
        return linear(x.flatten(1), weight.flatten(1), bias)[:, :, None, None]
    smaller = -(-size // stride)
    taps = _taps(weight.shape[2], size, stride).to(weight)  # a product with 0s and 1s: gathering has a slow gradient
    matrix = (weight.flatten(2) @ taps).reshape(outputs, -1, smaller**2, size**2).transpose(1, 2)
    out = linear(x.flatten(1), matrix.reshape(outputs * smaller**2, -1))
    out = out.reshape(len(x), outputs, smaller, smaller)
    return out if bias is None else out + bias[:, None, None]


@cache
def _taps(kernel: int, size: int, stride: int) -> torch.Tensor:
    """1 where a tap leads from an output pixel to an input one, (taps, outputs · inputs), all in raster order."""
    smaller = -(-size // stride)
    led = torch.zeros(kernel, kernel, smaller, smaller, size, size)
    for row, column, to_row, to_column in product(range(smaller), range(smaller), range(size), range(size)):
        tap = to_row - stride * row + kernel // 2, to_column - stride * column + kernel // 2
        if all(0 <= place < kernel for place in tap):
            led[(*tap, row, column, to_row, to_column)] = 1
    return led.reshape(kernel**2, -1)


class NormalisedConvolution(Convolution):
    """Weight norm: the filter of an output channel is exp(log_gain) · v / (‖v‖ + 1e-5), v its ``weight``.

    A chain applies the same filters thousands of times. Once :meth:`keep_filters` says that the weights are frozen,
    they are computed once and kept until a weight changes.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, **settings):
        super().__init__(inputs, outputs, kernel, **settings)
        self.log_gain = nn.Parameter(torch.empty(outputs, 1, 1, 1))
        self._kept: KeptFilters | None = None

    def keep_filters(self, keep: bool) -> None:
        """Keep the filters from call to call; whoever trains the weights must say False first.

        What is kept goes when a weight is written to, replaced or moved, and for good at the first call that finds a
        weight trainable: PyTorch's fused optimisers write to weights without leaving a trace.
        """
        self._kept = KeptFilters() if keep else None

    def _apply(self, *args, **kwargs):
        """What moves or converts the weights."""
        self._kept = self._kept and KeptFilters()
        return super()._apply(*args, **kwargs)

    def direction(self) -> torch.Tensor:
        """v, like ``weight``."""
        return self.weight

    def effective_weight(self) -> torch.Tensor:
        if self._kept is None:
            return self._filters()
        if self.weight.requires_grad or self.log_gain.requires_grad:
            self._kept = None
            return self.effective_weight()
        sources = (self.weight, self.log_gain)
        if not self._kept.holds(sources):
            with torch.no_grad():
                self._kept.put(sources, self._filters())
        return self._kept.filters

    def _filters(self) -> torch.Tensor:
        return WeightNorm.apply(self.direction(), self.log_gain)

    @torch.no_grad()
    def initialise_gain(self) -> None:
        """Gains with which the filters are as ``weight`` says, nearly."""
        self.log_gain.copy_(torch.log(_norms(self.direction()) + INITIAL_EPSILON))


class WeightNorm(torch.autograd.Function):
    """v, log_gain ↦ w = s·v with s = exp(log_gain) / (‖v‖ + 1e-5), for each output channel; once differentiable.

    A deep hierarchy has dozens of these in every step. By hand the gradient costs a third of what autograd takes:
    with g the gradient of w and ⟨g, v⟩ its product with v, that of log_gain is s⟨g, v⟩, and that of v is
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
        # Where v is 0 so is the product with it, and the filter follows the gradient alone.
        along = of_log_gain / (norms * (norms + NORM_EPSILON)).clamp_min(torch.finfo(norms.dtype).tiny)
        return torch.addcmul(gradient * scale, v, along, value=-1), of_log_gain


class KeptFilters:
    """The filters that some tensors led to, and what those tensors were like. A copy of it keeps nothing."""

    def __init__(self):
        self.sources, self.versions, self.filters = (), (), None

    def put(self, sources: tuple[torch.Tensor, ...], filters: torch.Tensor) -> None:
        self.sources, self.versions, self.filters = sources, _versions(sources), filters

    def holds(self, sources: tuple[torch.Tensor, ...]) -> bool:
        """Whether these are the very tensors, and nothing was written to them since."""
        same = len(sources) == len(self.sources) and all(a is b for a, b in zip(sources, self.sources, strict=True))
        return same and _versions(sources) == self.versions

    def __reduce__(self):
        return KeptFilters, ()


def _versions(tensors: tuple[torch.Tensor, ...]) -> tuple[int, ...]:
    """How often each was written to in place."""
    return tuple(tensor._version for tensor in tensors)


class MaskedConvolution(NormalisedConvolution):
    """An autoregressive convolution: no output looks at what comes later in raster order.

    Latent channels come one after the other at each place. Where there are more inputs or outputs than latent
    channels, they belong to them in equal blocks.

    Args:
        mirrored: rows and columns run backwards; the order of the channels stays.
        zero_diagonal: an output does not see its own latent channel at its own place either.
    """

    def __init__(self, inputs, outputs, kernel, *, mirrored: bool = False, zero_diagonal: bool = False, **settings):
        super().__init__(inputs, outputs, kernel, **settings)
        mask = raster_mask(inputs, outputs, kernel, self.groups, zero_diagonal)
        self.register_buffer("mask", mask.flip(2, 3) if mirrored else mask, persistent=False)

    def direction(self) -> torch.Tensor:
        return self.weight * self.mask


def raster_mask(inputs: int, outputs: int, kernel: int, groups: int, zero_diagonal: bool) -> torch.Tensor:
    """1 where a filter may look, (outputs, inputs / groups, kernel, kernel): above, to the left, and, at the place
    itself, at the channels that come no later (with ``zero_diagonal``: earlier). Depthwise filters see their own."""
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
def initialise_layers(module: nn.Module, generator: torch.Generator) -> None:
    """All layers within a module: weights and biases uniform in ±1/√fan_in, gains of filters to match, batch norm to
    the identity with fresh statistics."""
    for layer in module.modules():
        if isinstance(layer, Dense | Convolution):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            layer.weight.uniform_(-bound, bound, generator=generator)
            if layer.bias is not None:
                layer.bias.uniform_(-bound, bound, generator=generator)
        if isinstance(layer, NormalisedConvolution):
            layer.initialise_gain()
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
