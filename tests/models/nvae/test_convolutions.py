"""Convolutions on maps smaller than their filters, and filters that are computed once while weights are frozen."""

import copy
from functools import partial

import pytest
import torch
from torch.nn.functional import conv2d

from jebm.models.backbones.nvae.convolutions import (
    MaskedConvolution,
    NormalisedConvolution,
    WeightNorm,
    initialise_layers,
)
from jebm.models.backbones.nvae.hierarchy import NvaeHierarchy
from jebm.runtime.random import make_rng


def convolution(kind=NormalisedConvolution, channels=6, kernel=3, **settings):
    layer = kind(channels, channels, kernel, **settings).double()
    initialise_layers(layer, make_rng("weights"))
    return layer


def by_hand(layer):
    v = layer.direction()
    return torch.exp(layer.log_gain) * v / (v.square().sum((1, 2, 3), keepdim=True).sqrt() + 1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kernel": 1},
        {"kernel": 5},
        {"kernel": 11},
        {"stride": 2},
        {"dilation": 2},
        {"groups": 6, "kernel": 5},
        {"bias": False},
    ],
    ids=str,
)
def test_taps_that_see_only_padding_can_go(size, settings):
    layer = convolution(**settings)
    x = torch.randn(4, 6, size, size, generator=make_rng("x"), dtype=torch.float64, requires_grad=True)
    expected = conv2d(x, by_hand(layer), layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    torch.testing.assert_close(layer(x), expected)
    weights = torch.randn(expected.shape, generator=make_rng("cotangent"), dtype=torch.float64)
    sources = [x, *layer.parameters()]
    gradients = [torch.autograd.grad((out * weights).sum(), sources) for out in (layer(x), expected)]
    torch.testing.assert_close(*gradients)


def test_gradient_of_the_normalised_filters_is_that_of_the_formula():
    draw = partial(torch.randn, generator=make_rng("weight norm"), dtype=torch.float64)
    v, log_gain = draw(4, 3, 3, 3).requires_grad_(), draw(4, 1, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(WeightNorm.apply, (v, log_gain))


def test_filters_of_zero_have_a_finite_gradient():
    v, log_gain = torch.zeros(2, 1, 3, 3, requires_grad=True), torch.zeros(2, 1, 1, 1, requires_grad=True)
    WeightNorm.apply(v, log_gain).sum().backward()
    torch.testing.assert_close(v.grad, torch.full_like(v, 1e5))
    assert (log_gain.grad == 0).all()


def kept(kind=NormalisedConvolution):
    layer = convolution(kind).requires_grad_(False)
    layer.cache_filters(True)
    assert layer.effective_weight() is layer.effective_weight()
    return layer


@pytest.mark.parametrize("kind", [NormalisedConvolution, MaskedConvolution])
@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.weight.mul_(1.5).add_(0.1),
        lambda layer: layer.log_gain.add_(1.0),
        lambda layer: layer.load_state_dict({k: v + 0.1 for k, v in layer.state_dict().items()}),
        lambda layer: layer.load_state_dict({k: v + 0.1 for k, v in layer.state_dict().items()}, assign=True),
        lambda layer: setattr(layer, "weight", torch.nn.Parameter(layer.weight + 0.1, requires_grad=False)),
        lambda layer: initialise_layers(layer, make_rng("other weights")),
    ],
    ids=["weight", "gain", "loaded", "assigned", "replaced", "initialised"],
)
def test_cached_filters_follow_every_change_of_the_weights(kind, change):
    layer = kept(kind)
    before = layer.effective_weight().clone()
    change(layer)
    assert not torch.allclose(layer.effective_weight(), before)
    torch.testing.assert_close(layer.effective_weight(), by_hand(layer))


def test_cached_filters_are_converted_with_the_weights():
    layer = kept().float()
    assert layer.effective_weight().dtype == torch.float32
    torch.testing.assert_close(layer.effective_weight(), by_hand(layer))


def test_copy_has_its_own_cache():
    layer = kept()
    other = copy.deepcopy(layer)
    for _ in range(layer.weight._version - other.weight._version):
        other.weight.add_(0.1)  # the same version counter as that of the original
    torch.testing.assert_close(other.effective_weight(), by_hand(other))


@pytest.mark.parametrize("fused", [True, False])
def test_training_ends_the_caching_with_any_optimiser(fused):
    layer = kept()
    before = layer.effective_weight().clone()
    for parameter in layer.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=fused)
    layer.effective_weight()[0].sum().backward()
    for parameter in layer.parameters():  # frozen for a chain between the gradient and the step
        parameter.requires_grad_(False)
    torch.testing.assert_close(layer.effective_weight(), before)
    for parameter in layer.parameters():
        parameter.requires_grad_(True)
    optimizer.step()
    layer.requires_grad_(False)
    assert not torch.allclose(layer.effective_weight(), before)
    torch.testing.assert_close(layer.effective_weight(), by_hand(layer))


def test_trainable_filters_are_never_cached():
    layer = convolution()
    with torch.no_grad():
        assert layer.effective_weight() is not layer.effective_weight()
    assert layer.effective_weight().requires_grad


def test_freezing_a_hierarchy_caches_its_filters_and_changes_no_value():
    settings = {"layers_per_scale": [2], "latent_channels": 3, "encoder_channels": 4, "decoder_channels": 4, "flows": 1}
    hierarchy = NvaeHierarchy((1, 8, 8), **settings, blocks=3, preprocess_cells=1, postprocess_cells=1)
    hierarchy.initialise(make_rng("nvae", "weights"))
    hierarchy.eval()
    eps = torch.randn(3, hierarchy.dimensions, generator=make_rng("eps"))

    def gradient():
        point = eps.clone().requires_grad_(True)
        return torch.autograd.grad(hierarchy.decode(hierarchy.top_down_flat(point)).mean.sum(), point)[0]

    live = gradient()
    assert hierarchy.requires_grad_(False) is hierarchy
    torch.testing.assert_close(gradient(), live, rtol=0, atol=0)
    layers = [m for m in hierarchy.modules() if isinstance(m, NormalisedConvolution)]
    used = {id(m) for group in hierarchy.groups for m in group.decoder.modules()} | {id(hierarchy.output)}
    assert all(m.effective_weight() is m.effective_weight() for m in layers if id(m) in used)
    hierarchy.requires_grad_(True)
    assert not any(m.effective_weight() is m.effective_weight() for m in layers)
