"""What each energy sees: one layer, all of them side by side, or the top-down context."""

import pytest
import torch
from oracles import spec

from jebm.models.residual import ResidualHierarchy
from jebm.registry import build
from jebm.streams import generator

LAYERS = 3


@pytest.fixture
def hierarchy():
    made = ResidualHierarchy((1, 2, 2), groups=[LAYERS], latent_channels=2, channels=[6], inference_hidden=4)
    made.initialise(generator("hierarchy"))
    return made.requires_grad_(False)


def random_energy(hierarchy, **block):
    energy = build("energy", spec("energy", **block), hierarchy)
    stream = generator("energy", str(block))
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.normal_(generator=stream)
    return energy.requires_grad_(False)


def seen(hierarchy, energy):
    """Which ε_j the first, second … term of f depends on, as rows of booleans, bottom first."""
    eps = [torch.randn(4, 2, generator=generator("eps", i)).requires_grad_() for i in range(LAYERS)]
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
    top = hierarchy.top_down_flat(torch.randn(5, 6, generator=generator("eps")))
    torch.testing.assert_close(part(top), full.terms(top)[:, 1])


@pytest.mark.parametrize("name", ["context", "concatenated", "layerwise"])
def test_every_energy_starts_at_zero_and_learns(hierarchy, name):
    energy = build("energy", spec("energy", name=name), hierarchy)
    energy.initialise(generator("fresh"))
    value = energy(hierarchy.top_down_flat(torch.randn(5, 6, generator=generator("eps"))))
    assert torch.equal(value, torch.zeros(5))
    value.sum().backward()
    assert all(net[-1].weight.grad.abs().sum() > 0 for net in energy.nets.values())
