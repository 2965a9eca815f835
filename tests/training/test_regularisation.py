"""Spectral and batch-norm terms, warm-up and balancing of the KL: against closed forms."""

import math

import pytest
import torch
from torch import nn

from jebm.models.backbones.nvae.convolutions import (
    Convolution,
    MaskedConvolution,
    NormalisedConvolution,
    initialise_layers,
)
from jebm.runtime.random import generator
from jebm.training.kl_balance import by_scale, layer_sizes
from jebm.training.regularisation import SpectralPenalty, batch_norm_gains, penalty_weight, spectral_norms


@pytest.fixture
def module():
    parts = [
        Convolution(3, 4, 3),
        NormalisedConvolution(4, 4, 3),
        NormalisedConvolution(4, 4, 3),
        MaskedConvolution(4, 8, 3, zero_diagonal=True),
        MaskedConvolution(8, 8, 5, groups=8),
        nn.BatchNorm2d(3),
        nn.BatchNorm2d(2),
    ]
    module = nn.Sequential(*parts).double()
    initialise_layers(module, generator("regularisation"))
    return module


def test_spectral_norms_are_the_largest_singular_values_of_what_is_applied(module):
    expected = sum(
        torch.linalg.svdvals(layer.effective_weight().flatten(1))[0] for layer in module if hasattr(layer, "mask")
    ) + sum(
        torch.linalg.svdvals(layer.effective_weight().flatten(1))[0] for layer in module[:3]
    )  # fmt: skip
    torch.testing.assert_close(spectral_norms(module), expected)
    with torch.no_grad():
        module[3].weight += 100 * (1 - module[3].mask)  # what the mask hides does not count
    torch.testing.assert_close(spectral_norms(module), expected)


def test_power_iteration_approaches_it_from_below(module):
    penalty = SpectralPenalty(module, generator("power"))
    exact = spectral_norms(module)
    values = [penalty().detach() for _ in range(60)]
    assert all(value <= exact + 1e-12 for value in values)
    assert values[0] > 0.97 * exact
    torch.testing.assert_close(values[-1], exact, rtol=1e-4, atol=0)


def test_its_gradient_is_that_of_the_exact_one_once_it_has_settled(module):
    penalty = SpectralPenalty(module, generator("power"))
    for _ in range(200):
        value = penalty()
    settled = torch.autograd.grad(value, [p for p in module.parameters() if p.dim() == 4], allow_unused=True)
    exact = torch.autograd.grad(
        spectral_norms(module), [p for p in module.parameters() if p.dim() == 4], allow_unused=True
    )
    for own, wanted in zip(settled, exact, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-3, atol=1e-4)


def test_its_state_resumes_to_the_bit_and_its_start_is_the_stream_s(module):
    penalty, twin = (SpectralPenalty(module, generator("power")) for _ in range(2))
    assert torch.equal(penalty(), twin())
    state = penalty.state_dict()
    resumed = SpectralPenalty(module, generator("another"))
    resumed.load_state_dict(state)
    assert torch.equal(penalty(), resumed())
    assert not torch.equal(SpectralPenalty(module, generator("another"))(), twin())


def test_batch_norm_gains_are_the_largest_of_each_layer(module):
    with torch.no_grad():
        module[5].weight.copy_(torch.tensor([0.5, -3.0, 1.0]))
    assert float(batch_norm_gains(module).detach()) == 4.0


def test_weight_of_the_penalty_is_constant_or_geometric():
    assert penalty_weight(0.3, 0.01) == 0.01
    assert penalty_weight(0.0, 0.01, 10.0) == pytest.approx(10.0)
    assert penalty_weight(1.0, 0.01, 10.0) == pytest.approx(0.01)
    assert penalty_weight(0.5, 0.01, 1.0) == pytest.approx(0.1)


def test_busy_groups_pay_more_and_all_pay_the_same_once_warm():
    kl = torch.tensor([[1.0, 4.0, -1.0], [3.0, 4.0, 0.0]], dtype=torch.float64, requires_grad=True)
    factors = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    raw = torch.tensor([2.01, 4.01 / 2, 0.51], dtype=torch.float64)
    gamma = raw / raw.mean()
    torch.testing.assert_close(by_scale(kl.abs().mean(0), factors), gamma)
    gradient = torch.autograd.grad((kl * by_scale(kl.abs().mean(0), factors)).sum(), kl)[0]
    torch.testing.assert_close(gradient, gamma.expand(2, 3))  # the balance itself is not learned through
    assert math.isclose(float(gamma.mean()), 1.0)


def test_sizes_quadruple_with_the_maps_and_are_shared():
    fine, coarse = [(1, 8, 8)], [(1, 4, 4)]
    assert layer_sizes(3 * fine + coarse).tolist() == pytest.approx([4 / 3, 4 / 3, 4 / 3, 1.0])
    assert layer_sizes(2 * fine + 8 * coarse).tolist() == pytest.approx([16.0, 16.0, *[1.0] * 8])
