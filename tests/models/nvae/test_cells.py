"""Optimised computations of cells equal their definitions up to rounding."""

import torch
from torch.nn.functional import batch_norm, silu

from jebm.models.backbones.nvae.cells import SHIFTS, BatchNorm, ShrinkingSkip
from jebm.models.backbones.nvae.convolutions import initialise_layers
from jebm.runtime.random import make_rng


def draw(*shape):
    return torch.randn(*shape, generator=make_rng("cells", *shape), dtype=torch.float64)


def trained_norm(channels=3):
    norm = BatchNorm(channels).double().eval()
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
        tensor.copy_(draw(channels) + 1)
    norm.running_var.copy_(draw(channels).exp())
    return norm


def test_batch_norm_outside_training_is_that_of_pytorch_with_its_gradients():
    norm, x = trained_norm(), draw(4, 3, 2, 2).requires_grad_()
    expected = batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=1e-5)
    torch.testing.assert_close(norm(x), expected)
    sources, weights = (x, norm.weight, norm.bias), draw(4, 3, 2, 2)
    gradients = [torch.autograd.grad((out * weights).sum(), sources) for out in (norm(x), expected)]
    torch.testing.assert_close(*gradients)


def test_batch_norm_keeps_half_precision():
    norm = BatchNorm(3).eval()
    assert norm(torch.ones(2, 3, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_shrinking_skip_is_four_convolutions_of_shifted_pixels():
    skip, x = ShrinkingSkip(3, 6).double(), draw(2, 3, 6, 6)  # 6 outputs: the last convolution has more than the others
    initialise_layers(skip, make_rng("skip"))
    parts = [conv(silu(x)[:, :, row:, column:]) for conv, (row, column) in zip(skip.convs, SHIFTS, strict=True)]
    torch.testing.assert_close(skip(x), torch.cat(parts, 1))
