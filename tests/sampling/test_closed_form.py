"""Gradients in closed form against autograd and finite differences, and chains with both from the same noise."""

import pytest
import torch
from oracles import quadratic_prior, spec
from torch import nn

from jebm.config.components import build
from jebm.models.backbones.convolutional import FromVector
from jebm.models.backbones.residual import ResidualHierarchy
from jebm.models.nets import frozen
from jebm.models.priors.ebm import JointPrior
from jebm.runtime.random import make_rng
from jebm.sampling.closed_form.gradients import posterior_gradient, prior_gradient
from jebm.sampling.closed_form.stacks import compile_stack
from jebm.sampling.posterior import posterior_target
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import SPACES
from jebm.sampling.target import Target

IMAGE = (3, 8, 8)
BACKBONES = {
    "perceptron": {"name": "perceptron", "latent_dims": [5, 4, 3], "hidden": 7},
    "convolutional": {"name": "convolutional", "latent_dims": [5, 4], "channels": [8, 6], "hidden": 9, "depth": 3,
        "likelihood": {"name": "gaussian", "sigma": 0.25},
    },
    "no floor": {
        "name": "convolutional", "latent_dims": [5, 4], "channels": [8], "hidden": 9, "min_sigma": 0.0,
        "likelihood": {"name": "gaussian", "sigma": 0.2, "learned": True},
    },
}  # fmt: skip
ENERGIES = {
    "layerwise": {"name": "layerwise", "hidden": 6},
    "one layer": {"name": "layerwise", "hidden": 6, "layers": [2]},
    "linear": {"name": "layerwise", "depth": 0},
    "concatenated": {"name": "concatenated", "hidden": 6},
    "cumulative": {"name": "cumulative", "hidden": 6},
}


def on(hierarchy, **energy):
    return JointPrior(hierarchy, energy=spec("energy", **energy))


def model(backbone, energy, dtype=torch.float64):
    """A backbone and a joint prior with random weights everywhere, output layers of the energies too."""
    hierarchy = build("backbone", spec("backbone", **BACKBONES[backbone]), IMAGE)
    rng = make_rng("closed form", backbone, energy)
    hierarchy.initialise(rng)
    prior = on(hierarchy, **ENERGIES[energy])
    prior.initialise(rng)
    with torch.no_grad():
        for net in prior.energy.nets.values():
            net[-1].weight.normal_(generator=rng)
            net[-1].bias.normal_(generator=rng)
    return hierarchy.to(dtype), prior.to(dtype)


def points(hierarchy, count=6, dtype=torch.float64):
    x = torch.randn(count, hierarchy.dimensions, generator=make_rng("points"), dtype=dtype)
    return x, torch.rand(count, *hierarchy.image_shape, generator=make_rng("images"), dtype=dtype) * 2 - 1


def targets(hierarchy, prior, images, gradients):
    return {
        "whitened": SPACES["whitened"](hierarchy, prior).target(gradients),
        "z": SPACES["z"](hierarchy, prior).target(gradients),
        "posterior": posterior_target(hierarchy, prior, images, gradients),
    }


@pytest.mark.parametrize("energy", ENERGIES)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_equals_autograd_to_rounding(backbone, energy):
    hierarchy, prior = model(backbone, energy)
    x, images = points(hierarchy)
    closed, reference = (targets(hierarchy, prior, images, how) for how in ("closed-form", "autograd"))
    for name, target in closed.items():
        assert target.closed_form is not None, name
        value, gradient = target.tilt_and_gradient(x)
        exact_value, exact_gradient = reference[name].tilt_and_gradient(x)
        assert torch.allclose(value, exact_value, rtol=1e-12, atol=1e-12), name
        assert torch.allclose(gradient, exact_gradient, rtol=1e-11, atol=1e-12 * exact_gradient.abs().max()), name


@pytest.mark.parametrize("backbone", BACKBONES)
def test_equals_finite_differences(backbone):
    hierarchy, prior = model(backbone, "concatenated")
    x, images = points(hierarchy, count=2)
    for name, target in targets(hierarchy, prior, images, "closed-form").items():
        _, gradient = target.tilt_and_gradient(x)
        for axis in range(hierarchy.dimensions):
            shift = torch.zeros_like(x)
            shift[:, axis] = 1e-6
            slope = (target.tilt(x + shift) - target.tilt(x - shift)) / 2e-6
            assert torch.allclose(gradient[:, axis], slope, rtol=1e-5, atol=1e-5), (name, axis)


@pytest.mark.parametrize(
    "kernel", [{"name": "langevin", "step_size": 0.2}, {"name": "langevin", "step_size": 0.2, "adjusted": True}]
)
@pytest.mark.parametrize("space", ["whitened", "z"])
def test_the_same_noise_leads_to_the_same_place(space, kernel):
    hierarchy, prior = model("convolutional", "layerwise")
    kernel, (start, _) = build("kernel", spec("kernel", **kernel)), points(hierarchy, 50)
    ends = {}
    with frozen(hierarchy, prior):
        for gradients in ("closed-form", "autograd"):
            rng = make_rng("noise")
            result = run_chain(kernel, SPACES[space](hierarchy, prior).target(gradients), start, 30, rng)
            ends[gradients] = result, torch.randn(3, generator=rng)
    closed, reference = ends["closed-form"], ends["autograd"]
    assert torch.allclose(closed[0].x, reference[0].x, rtol=1e-9, atol=1e-9)
    assert torch.equal(closed[0].finite, reference[0].finite)
    assert closed[0].acceptance == reference[0].acceptance
    assert torch.equal(closed[1], reference[1])  # both used the same number of random numbers


def test_a_chain_does_not_touch_its_start_or_the_weights_gradients():
    hierarchy, prior = model("convolutional", "layerwise")
    start, images = points(hierarchy)
    before = start.clone()
    kernel = build("kernel", spec("kernel", name="langevin", step_size=0.1))
    for target in targets(hierarchy, prior, images, "closed-form").values():
        run_chain(kernel, target, start, 3, make_rng("noise"))
    assert torch.equal(start, before)
    assert all(p.grad is None for p in [*hierarchy.parameters(), *prior.parameters()])


def test_follows_the_weights_as_they_are_trained():
    hierarchy, prior = model("perceptron", "layerwise")
    (x, _), closed = points(hierarchy), prior_gradient(prior)
    optimiser = torch.optim.AdamW([*hierarchy.parameters(), *prior.parameters()], lr=0.1)
    (-prior.tilt(x).sum()).backward()
    optimiser.step()
    assert torch.allclose(closed(x)[1], Target(prior.tilt).tilt_and_gradient(x)[1], rtol=1e-11, atol=1e-11)


def test_a_lean_chain_says_where_it_is_not_finite():
    hierarchy, prior = model("perceptron", "layerwise")
    start, _ = points(hierarchy)
    start[2, 1] = torch.inf
    kernel = build("kernel", spec("kernel", name="langevin", step_size=0.1))
    result = run_chain(kernel, SPACES["whitened"](hierarchy, prior).target("closed-form"), start, 2, make_rng("noise"))
    assert result.finite.tolist() == [True, True, False, True, True, True]


def test_without_a_closed_form_autograd_computes_gradients():
    _, quadratic, _ = quadratic_prior()
    residual = ResidualHierarchy((1, 4, 4), layers_per_scale=[2], latent_channels=3, channels=[8])
    for prior in (quadratic, on(residual, name="layerwise", hidden=4)):
        assert prior_gradient(prior) is None
    hierarchy, prior = model("perceptron", "layerwise")
    hierarchy.generator_nets[0][1] = nn.GELU()
    x, images = points(hierarchy)
    assert prior_gradient(prior, "z") is None
    assert posterior_gradient(hierarchy, prior, images) is None
    closed, reference = (targets(hierarchy, prior, images, how) for how in ("closed-form", "autograd"))
    for name, target in closed.items():
        assert torch.equal(target.tilt_and_gradient(x)[1], reference[name].tilt_and_gradient(x)[1])


LAYERS = [
    nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Identity(), nn.Linear(6, 2)),
    nn.Sequential(nn.SiLU(), nn.Linear(4, 3), nn.LeakyReLU(0.1), nn.Sequential(nn.Linear(3, 2), nn.SiLU())),
    nn.Sequential(
        FromVector(4, 3, 3), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(3, 2, 4, 2, 1, bias=False), nn.ReLU(),
        nn.ConvTranspose2d(2, 2, 3, 1, 1), nn.Tanh(), nn.Flatten(),
    ),
    nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.ConvTranspose2d(1, 3, 3, stride=2, output_padding=1)),
]  # fmt: skip


@pytest.mark.parametrize("net", LAYERS)
def test_stacks_equal_their_modules(net):
    net = net.double()
    for parameter in net.parameters():
        parameter.data.normal_(generator=make_rng("stack"))
    x = torch.randn(5, 4, generator=make_rng("x"), dtype=torch.float64, requires_grad=True)
    out = net(x)
    weight = torch.randn(out.shape, generator=make_rng("weight"), dtype=torch.float64)
    exact = torch.autograd.grad((out * weight).sum(), x)[0]
    before = x.detach().clone()
    with torch.no_grad():
        value, kept = compile_stack([net]).forward(x.detach())
        found = compile_stack([net]).vjp(weight, kept)
    assert torch.allclose(value, out, rtol=1e-12, atol=1e-12)
    assert torch.allclose(found, exact, rtol=1e-12, atol=1e-12)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.ReLU(), nn.Linear(4, 1)),  # would overwrite its argument
        nn.Sequential(nn.Linear(4, 1), nn.LeakyReLU(0.0)),  # its gradient is no function of its result
        nn.Sequential(nn.Linear(4, 1), nn.Dropout(0.1)),
        nn.Sequential(nn.ConvTranspose2d(4, 4, 3, groups=2)),
        nn.Sequential(nn.ConvTranspose2d(4, 4, 3, dilation=2)),
    ],
)
def test_other_modules_have_no_closed_form(net):
    assert compile_stack([net]) is None
