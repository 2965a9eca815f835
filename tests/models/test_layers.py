"""Descending layer by layer, terms of one layer, and the sequential prior, which has no tilt."""

import pytest
import torch
from oracles import spec

from jebm.config.components import build, names_with
from jebm.models.backbones.base import EMPTY, Hierarchy, flatten
from jebm.models.backbones.perceptron import PerceptronHierarchy
from jebm.models.backbones.residual import ResidualHierarchy
from jebm.models.energies.context import ContextEnergy
from jebm.models.energies.cumulative import CumulativeEnergy
from jebm.models.energies.layerwise import LayerwiseEnergy
from jebm.models.priors.sequential import SequentialPrior
from jebm.runtime.random import make_rng


def backbones():
    chain = PerceptronHierarchy((1, 2, 2), latent_dims=[4, 3, 2], hidden=6, depth=1)
    deep = ResidualHierarchy((1, 2, 2), layers_per_scale=[4], latent_channels=3, channels=[8])
    maps = ResidualHierarchy((1, 4, 4), layers_per_scale=[2, 1], latent_channels=2, resolutions=[2, 1], channels=[3, 5])
    small = {"latent_dims": [3, 2], "channels": [3, 2], "hidden": 4, "depth": 1, "inference_features": 4}
    images = build("backbone", spec("backbone", name="convolutional", **small), (1, 4, 4))
    for hierarchy in (chain, deep, maps, images):
        hierarchy.initialise(make_rng("backbone"))
        yield hierarchy.requires_grad_(False)


BACKBONES = pytest.mark.parametrize(
    "hierarchy", list(backbones()), ids=["perceptron", "residual", "residual maps", "convolutional"]
)


@BACKBONES
def test_pass_by_layers_is_that_of_the_inference_network_and_of_given_latents(hierarchy):
    x = torch.rand(5, *hierarchy.image_shape, generator=make_rng("x"))
    posterior = hierarchy.infer(x, make_rng("q"))
    top = hierarchy.top_down(posterior.eps)
    for other in (posterior.top, hierarchy.condition(top.z)[0]):
        torch.testing.assert_close(flatten(other.z), flatten(top.z))
        torch.testing.assert_close(flatten(other.context), flatten(top.context))


@BACKBONES
def test_descending_from_a_part_of_a_pass_goes_on_with_it(hierarchy):
    eps = hierarchy.split(torch.randn(5, hierarchy.dimensions, generator=make_rng("eps")))
    full = hierarchy.top_down(eps)
    assert full.above(hierarchy.layers) == EMPTY
    for layer in range(hierarchy.layers):
        part = hierarchy.descend(full.above(layer + 1), eps[layer])
        assert all(map(torch.equal, part.z, full.z[layer:]))
        assert all(map(torch.equal, part.context, full.context[layer:]))
        assert len(part.z) == len(part.context) == hierarchy.layers - layer


def test_a_hierarchy_without_descend_is_an_error_that_names_it():
    with pytest.raises(NotImplementedError, match="can't descend"):
        Hierarchy.descend(object(), EMPTY, torch.zeros(1, 1))


def randomised(energy):
    energy.initialise(make_rng("energy"))
    for net in energy.nets.values():
        net[-1].weight.data.normal_(generator=make_rng("last"))
    return energy


@BACKBONES
@pytest.mark.parametrize("kind", [LayerwiseEnergy, ContextEnergy, CumulativeEnergy])
def test_terms_see_their_layer_and_those_above_only(hierarchy, kind):
    energy = randomised(kind(hierarchy, hidden=4, depth=1))
    eps = torch.randn(3, hierarchy.dimensions, generator=make_rng("eps")).requires_grad_(True)
    terms = energy.terms(hierarchy.top_down_flat(eps))
    ends = torch.tensor(hierarchy.layer_dims).cumsum(0)
    for layer, (term, end) in enumerate(zip(terms.unbind(1), ends, strict=True)):
        (gradient,) = torch.autograd.grad(term.sum(), eps, retain_graph=True)
        below = end - hierarchy.layer_dims[layer]
        assert (gradient[:, :below] == 0).all()
        assert (gradient[:, below:end] != 0).any()
        assert (gradient[:, end:] != 0).any() == (layer + 1 < hierarchy.layers)


def test_cumulative_term_is_a_perceptron_on_the_layer_and_all_above():
    hierarchy = next(backbones())
    energy = randomised(CumulativeEnergy(hierarchy, hidden=4, depth=1, layers=[2]))
    z = hierarchy.transform(hierarchy.split(torch.randn(3, 9, generator=make_rng("eps"))))
    expected = energy.nets["2"](torch.cat([z[1], z[2]], 1)).squeeze(1)
    eps = hierarchy.split(torch.randn(3, 9, generator=make_rng("eps")))
    assert torch.equal(energy(hierarchy.top_down(eps)), expected)
    assert [energy.has_layer(number) for number in (1, 2, 3)] == [False, True, False]


@BACKBONES
@pytest.mark.parametrize("kind", names_with("energy", "layered"))
def test_layer_tilts_are_the_terms_of_the_energy(hierarchy, kind):
    prior = SequentialPrior(hierarchy, energy=spec("energy", name=kind, hidden=4))
    randomised(prior.energy)
    eps = hierarchy.split(torch.randn(3, hierarchy.dimensions, generator=make_rng("eps")))
    top = hierarchy.top_down(eps)
    tilts = [prior.layer_tilt(top.above(i + 1), layer.flatten(1)) for i, layer in enumerate(eps)]
    torch.testing.assert_close(torch.stack(tilts, 1), prior.energy.terms(top))


def test_layers_without_an_energy_have_no_tilt():
    hierarchy = next(backbones())
    prior = SequentialPrior(hierarchy, energy=spec("energy", name="layerwise", hidden=4, depth=1, layers=[1]))
    assert torch.equal(prior.layer_tilt(EMPTY, torch.ones(3, 2)), torch.zeros(3))


def test_sequential_prior_refuses_to_pass_for_a_density():
    prior = SequentialPrior(next(backbones()), energy=spec("energy", name="layerwise", hidden=4, depth=1))
    for ask in (prior.tilt, prior.log_prob):
        with pytest.raises(NotImplementedError, match="unknown Z_i"):
            ask(torch.zeros(2, 9))
