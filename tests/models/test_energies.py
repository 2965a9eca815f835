"""What each energy sees: one layer, all of them side by side, or the top-down context."""

import pytest
import torch
from oracles import spec
from torch import nn

from jebm.config.components import build
from jebm.errors import JebmError
from jebm.models.backbones.residual import ResidualHierarchy
from jebm.models.energies.base import chosen_layers
from jebm.models.energies.convolutional import map_net
from jebm.models.nets import initialise
from jebm.runtime.random import make_rng

LAYERS = 3


@pytest.fixture
def hierarchy():
    made = ResidualHierarchy((1, 2, 2), layers_per_scale=[LAYERS], latent_channels=2, channels=[6], inference_hidden=4)
    made.initialise(make_rng("hierarchy"))
    return made.requires_grad_(False)


def random_energy(hierarchy, **block):
    energy = build("energy", spec("energy", **block), hierarchy)
    rng = make_rng("energy", str(block))
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.normal_(generator=rng)
    return energy.requires_grad_(False)


def seen(hierarchy, energy):
    """Which ε_j the first, second … term of f depends on, as rows of booleans, bottom first."""
    eps = [torch.randn(4, 2, generator=make_rng("eps", i)).requires_grad_() for i in range(LAYERS)]
    terms = energy.terms(hierarchy.top_down(tuple(eps)))
    rows = []
    for term in terms.T:
        gradients = torch.autograd.grad(term.sum(), eps, retain_graph=True, allow_unused=True)
        rows.append([g is not None and bool(g.abs().sum() > 0) for g in gradients])
    return rows


def test_context_term_sees_its_layer_and_those_above(hierarchy):
    energy = random_energy(hierarchy, name="context", hidden=4, depth=1)
    assert seen(hierarchy, energy) == [[True, True, True], [False, True, True], [False, False, True]]


def test_concatenated_energy_is_one_term_of_all_layers(hierarchy):
    energy = random_energy(hierarchy, name="concatenated", hidden=4, depth=1)
    assert seen(hierarchy, energy) == [[True, True, True]]


@pytest.mark.parametrize("name", ["context", "layerwise"])
def test_restricted_energy_is_the_same_term_alone(hierarchy, name):
    full = random_energy(hierarchy, name=name, hidden=4, depth=1)
    part = build("energy", spec("energy", name=name, hidden=4, depth=1, layers=[2]), hierarchy)
    part.nets["2"].load_state_dict(full.nets["2"].state_dict())
    top = hierarchy.top_down_flat(torch.randn(5, 6, generator=make_rng("eps")))
    torch.testing.assert_close(part(top), full.terms(top)[:, 1])


@pytest.fixture
def maps():
    """A hierarchy that has maps of 16 and 8 pixels and a vector, of which energies see the shapes alone."""
    made = ResidualHierarchy(
        (1, 16, 16),
        layers_per_scale=[1, 1, 1],
        resolutions=[16, 8, 1],
        channels=[3, 3, 6],
        latent_channels=2,
        inference_hidden=2,
    )
    made.initialise(make_rng("maps"))
    return made.requires_grad_(False)


def layers_of(net):
    """(kind, inputs, outputs) of what holds the weights."""
    return [
        ("conv", m.in_channels, m.out_channels)
        if isinstance(m, nn.Conv2d)
        else ("linear", m.in_features, m.out_features)
        for m in net
        if hasattr(m, "weight")
    ]


def test_energy_of_maps_halves_them_down_to_four_pixels(maps):
    energy = build("energy", spec("energy", name="convolutional"), maps)
    assert layers_of(energy.nets["1"]) == [
        ("conv", 2, 64), ("conv", 64, 64), ("linear", 1024, 200), ("linear", 200, 200), ("linear", 200, 1)
    ]  # fmt: skip
    assert layers_of(energy.nets["2"]) == [("conv", 2, 64), ("linear", 1024, 200), ("linear", 200, 1)]
    assert layers_of(energy.nets["3"]) == [("linear", 2, 200), ("linear", 200, 1)]
    energy.initialise(make_rng("conv energy"))
    top = maps.top_down_flat(torch.randn(5, maps.dimensions, generator=make_rng("eps")))
    assert torch.equal(energy.terms(top), torch.zeros(5, 3))
    energy = random_energy(maps, name="convolutional", channels=4, hidden=5)
    moved = top.z[0].clone()
    moved[:, 1, 15, 15] += 1  # the furthest corner counts
    changed = energy.terms(top._replace(z=(moved, *top.z[1:]))) != energy.terms(top)
    assert changed.tolist() == [[True, False, False]] * 5


@pytest.mark.parametrize(
    ("size", "convolutions"), [(4, 0), (7, 1), (8, 1), (14, 2), (16, 2), (32, 3), (64, 4), (128, 5)]
)
def test_published_number_of_convolutions_by_map_size(size, convolutions):
    net = map_net((2, size, size), 3, 4, "leaky-relu")
    initialise(net, make_rng("map net"))
    kinds = [kind for kind, *_ in layers_of(net)]
    assert kinds == ["conv"] * convolutions + ["linear"] * (max(convolutions, 1) + 1)
    assert net(torch.zeros(1, 2, size, size)).shape == (1, 1)


def test_each_layer_may_have_a_size_of_its_own(hierarchy):
    energy = build("energy", spec("energy", name="layerwise", hidden=[7, 5], depth=[3, 0], layers=[1, 3]), hierarchy)
    assert layers_of(energy.nets["1"]) == [("linear", 2, 7), ("linear", 7, 7), ("linear", 7, 7), ("linear", 7, 1)]
    assert layers_of(energy.nets["3"]) == [("linear", 2, 1)]
    with pytest.raises(JebmError, match=r"prior\.energy\.hidden: has 2 entries, but 3 layers have an energy"):
        build("energy", spec("energy", name="layerwise", hidden=[7, 5]), hierarchy)


def test_published_start_and_activation_are_chosen_by_parameters(hierarchy):
    block = {"name": "layerwise", "hidden": 40, "depth": 1, "activation": "leaky-relu", "start": "random"}
    energy = build("energy", spec("energy", **block), hierarchy)
    energy.initialise(make_rng("random start"))
    assert {type(m) for net in energy.nets.values() for m in net} == {nn.Linear, nn.LeakyReLU}
    for net in energy.nets.values():
        assert 0.5 * 40**-0.5 < net[-1].weight.abs().max() <= 40**-0.5  # PyTorch's default
    plain = build("energy", spec("energy", name="layerwise", hidden=40, depth=1), hierarchy)
    plain.initialise(make_rng("random start"))
    assert {type(m) for m in plain.nets["1"]} == {nn.Linear, nn.SiLU}
    assert torch.equal(plain.nets["1"][0].weight, energy.nets["1"][0].weight)


@pytest.mark.parametrize("name", ["context", "concatenated", "layerwise", "convolutional"])
def test_every_energy_starts_at_zero_and_learns(hierarchy, name):
    energy = build("energy", spec("energy", name=name), hierarchy)
    energy.initialise(make_rng("fresh"))
    value = energy(hierarchy.top_down_flat(torch.randn(5, 6, generator=make_rng("eps"))))
    assert torch.equal(value, torch.zeros(5))
    value.sum().backward()
    assert all(net[-1].weight.grad.abs().sum() > 0 for net in energy.nets.values())


@pytest.mark.parametrize(("k", "expected"), [(1, [6]), (2, [4, 5, 6]), (3, [1, 2, 3, 4, 5, 6])])
def test_energies_of_the_top_scales_are_those_of_the_coarsest_maps(k, expected):
    hierarchy = ResidualHierarchy(
        (1, 8, 8),
        layers_per_scale=[3, 2, 1],
        latent_channels=2,
        resolutions=[8, 4, 1],
        channels=[3, 4, 5],
        inference_hidden=3,
    )
    block = {"name": "layerwise", "hidden": 4, "depth": 1}
    chosen = build("energy", spec("energy", **block, layers={"top_scales": k}), hierarchy)
    assert [int(number) for number in chosen.nets] == expected
    listed = build("energy", spec("energy", **block, layers=expected), hierarchy)
    assert chosen.state_dict().keys() == listed.state_dict().keys()


def test_layers_of_one_size_are_one_scale(hierarchy):
    assert chosen_layers(hierarchy.latent_shapes, {"top_scales": 1}) == [1, 2, 3]
