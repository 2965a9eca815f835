"""Stacks of linear maps and activations with their vector–Jacobian product (VJP) in closed form.

For small networks the overhead of autograd exceeds the arithmetic. Here the value and the gradient with respect to the
*input* are computed by the kernels that autograd would call, in the same order, but without a graph. The results are
not differentiable; chains do not need that, and training uses the modules themselves.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d, silu

from jebm.models.backbones.convolutional import FromVector

aten = torch.ops.aten


class Layer(ABC):
    """One map of a stack. It shares the storage of its module's weights, so updates of the optimiser take effect."""

    overwrites = False
    """Whether :meth:`forward` overwrites its argument."""

    @abstractmethod
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """The value at x (batch, …), and the values that :meth:`vjp` needs."""

    @abstractmethod
    def vjp(self, gradient: torch.Tensor, saved: Any) -> torch.Tensor:
        """The gradient with respect to the input, given the gradient with respect to the output."""


class Linear(Layer):
    """x Wᵀ + b."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        self.weight, self.transposed, self.bias = weight, weight.t(), bias

    def forward(self, x):
        if self.bias is None:
            return torch.mm(x, self.transposed), None
        return torch.addmm(self.bias, x, self.transposed), None

    def vjp(self, gradient, saved):
        return torch.mm(gradient, self.weight)


class TransposedConvolution(Layer):
    """A transposed convolution, (batch, in, h, w) → (batch, out, h', w')."""

    def __init__(self, module: nn.ConvTranspose2d):
        self.weight, self.bias = module.weight.detach(), _detached(module.bias)
        self.stride, self.padding = module.stride, module.padding
        self.output_padding = module.output_padding

    def forward(self, x):
        return conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding), None

    def vjp(self, gradient, saved):
        return conv2d(gradient, self.weight, None, self.stride, self.padding)


class ConvolutionOfVector(TransposedConvolution):
    """A transposed convolution of one pixel as a matrix product, (batch, in) → (batch, out, h, w)."""

    def forward(self, x):
        out = torch.mm(x, self.weight.flatten(1)).reshape(len(x), *self.weight.shape[1:])
        return out if self.bias is None else out.add_(self.bias[:, None, None]), None

    def vjp(self, gradient, saved):
        return torch.mm(gradient.flatten(1), self.weight.flatten(1).t())


class UnitStrideConvolution(TransposedConvolution):
    """A transposed convolution of stride 1, computed as a convolution with the mirrored kernel, which is faster."""

    def forward(self, x):
        border = [size - 1 - pad for size, pad in zip(self.weight.shape[2:], self.padding, strict=True)]
        return conv2d(x, self.weight.flip(2, 3).transpose(0, 1), self.bias, 1, border), None


class Pointwise(Layer):
    """An activation whose gradient is a function of its result. It overwrites the output of the layer before it."""

    overwrites = True

    def __init__(self, in_place: Callable, vjp: Callable):
        self._in_place, self._vjp = in_place, vjp

    def forward(self, x):
        x = self._in_place(x)
        return x, x

    def vjp(self, gradient, saved):
        return self._vjp(gradient, saved)


class SiLU(Layer):
    """The SiLU activation, whose gradient is a function of its input."""

    def forward(self, x):
        return silu(x), x

    def vjp(self, gradient, saved):
        return aten.silu_backward(gradient, saved)


class Reshape(Layer):
    """Flatten or unflatten."""

    def __init__(self, module: nn.Module):
        self.module = module

    def forward(self, x):
        return self.module(x), x.shape

    def vjp(self, gradient, saved):
        return gradient.reshape(saved)


def _transposed_convolution(module: nn.ConvTranspose2d) -> Layer | None:
    if module.groups != 1 or module.dilation != (1, 1):
        return None
    small = all(pad < size for pad, size in zip(module.padding, module.kernel_size, strict=True))
    if module.stride == (1, 1) and module.output_padding == (0, 0) and small:
        return UnitStrideConvolution(module)
    return TransposedConvolution(module)


def _leaky(slope: float) -> Pointwise:
    return Pointwise(
        lambda x: nn.functional.leaky_relu_(x, slope),
        lambda gradient, result: aten.leaky_relu_backward(gradient, result, slope, True),
    )


def _activation(module: nn.Module) -> Layer | None:
    match module:
        case nn.LeakyReLU() if module.negative_slope > 0:
            return _leaky(module.negative_slope)
        case nn.ReLU():
            return Pointwise(torch.relu_, lambda gradient, result: aten.threshold_backward(gradient, result, 0))
        case nn.Tanh():
            return Pointwise(torch.tanh_, aten.tanh_backward)
        case nn.SiLU():
            return SiLU()
    return None


def _detached(parameter: torch.Tensor | None) -> torch.Tensor | None:
    return None if parameter is None else parameter.detach()


class Stack:
    """A sequence of layers.

    Args:
        layers: the first one must not overwrite its argument, which belongs to the caller.
    """

    def __init__(self, layers: Sequence[Layer]):
        self.layers = tuple(layers)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list]:
        """The value at x, and the values that :meth:`vjp` needs."""
        saved = []
        for layer in self.layers:
            x, own = layer.forward(x)
            saved.append(own)
        return x, saved

    def vjp(self, gradient: torch.Tensor, saved: list) -> torch.Tensor:
        """The gradient with respect to the input, given the gradient with respect to the output."""
        for layer, own in zip(reversed(self.layers), reversed(saved), strict=True):
            gradient = layer.vjp(gradient, own)
        return gradient

    def value_and_gradient(self, x: torch.Tensor, value: bool = True) -> tuple[torch.Tensor | None, torch.Tensor]:
        """For a scalar network: the value (batch,), or None if ``value`` is false, and the gradient, like x."""
        *hidden, last = self.layers
        if value or not isinstance(last, Linear):
            found, saved = self.forward(x)
            return found.squeeze(1), self.vjp(torch.ones_like(found), saved)
        below = Stack(hidden)
        saved = below.forward(x)[1]
        return None, below.vjp(last.weight.expand(len(x), -1), saved)


def compile_stack(modules: Iterable[nn.Module]) -> Stack | None:
    """The stack of a sequence of modules, or None if one of them has no closed form here."""
    layers: list[Layer] = []
    for module in _flat(modules):
        if isinstance(module, nn.Identity):
            continue
        layer = _compile_layer(module)
        # An activation in place needs a fresh tensor: it must overwrite neither the input of the stack, nor a view of
        # it, nor a result that another activation has saved.
        fresh = bool(layers) and isinstance(layers[-1], Linear | TransposedConvolution)
        if layer is None or (layer.overwrites and not fresh):
            return None
        layers.append(layer)
    return Stack(layers)


def _compile_layer(module: nn.Module) -> Layer | None:
    kind = type(module)  # a subclass may override anything
    if kind is nn.Linear:
        return Linear(module.weight.detach(), _detached(module.bias))
    if kind is FromVector:
        return ConvolutionOfVector(module)
    if kind is nn.ConvTranspose2d:
        return _transposed_convolution(module)
    return Reshape(module) if kind in (nn.Flatten, nn.Unflatten) else _activation(module)


def _flat(modules: Iterable[nn.Module]) -> Iterable[nn.Module]:
    for module in modules:
        if type(module) is nn.Sequential:
            yield from _flat(module)
        else:
            yield module
