"""Sampling layer by layer from the top, against the exact moments of a product of Gaussian conditionals."""

import pytest
import torch
from ladder import OFFSETS, SCALES, WEIGHTS, Ladder, Quadratic
from oracles import SIGMAS, spec, worst_moment_error

from jebm.config.components import build
from jebm.errors import DivergedError
from jebm.models.backbones.residual import ResidualHierarchy
from jebm.models.priors.sequential import SequentialPrior
from jebm.runtime.random import make_rng

COEFFICIENTS = [[0.9, 0.7, 0.5, 0.0], [-0.2, -0.4, 0.6, 1.0], [0.6, 0.8, 0.0, -2.0]]


def quiet(*_):
    """A progress callback that prints nothing."""


def sampler(steps=40, step_size=0.8, **kernel):
    kernel = {"name": "pcnl", "step_size": step_size, "adjusted": True} | kernel
    return build("sampler", spec("sampler", name="sequential", kernel=kernel, steps=steps, chains=3000))


def ladder_prior(coefficients=COEFFICIENTS):
    layers = len(coefficients)
    prior = SequentialPrior(Ladder(layers), energy=spec("energy", name="layerwise", hidden=1, depth=0))
    prior.energy = Quadratic(layers, coefficients)
    return prior.requires_grad_(False)


def conditionals():
    """For each layer, top first: the precision of ε_i, and slope and offset of its mean in z_{i+1}, float64.

    With z = w z' + c + s ε: −½ a z² + b z + d z z' − ½ ε² = −½ (a s² + 1) ε² + s [b − a c + (d − a w) z'] ε + …
    """
    for i in (2, 1, 0):
        a, b, cross, _ = COEFFICIENTS[i]
        w, c, s = (0.0, 0.0, 1.0) if i == 2 else (WEIGHTS[i], OFFSETS[i], SCALES[i])
        precision = a * s**2 + 1
        yield i, precision, s * (cross - a * w) / precision, s * (b - a * c) / precision


def exact_moments():
    """Mean and covariance of ε = (ε_1, ε_2, ε_3), from ε = A n + m with independent standard normal n."""
    factor, mean = torch.zeros(3, 3).double(), torch.zeros(3).double()
    z_factor, z_mean = torch.zeros(3).double(), torch.tensor(0.0).double()
    for i, precision, slope, offset in conditionals():
        factor[i] = slope * z_factor
        factor[i, i] = precision**-0.5
        mean[i] = slope * z_mean + offset
        w, c, s = (0.0, 0.0, 1.0) if i == 2 else (WEIGHTS[i], OFFSETS[i], SCALES[i])
        z_factor, z_mean = w * z_factor + s * factor[i], w * z_mean + c + s * mean[i]
    return mean, factor @ factor.T


def joint_moments():
    """Moments of the density that the same terms make under one normaliser: Gaussian, with another precision."""
    prior = ladder_prior()

    def log_density(eps):
        return prior.energy(prior.hierarchy.top_down_flat(eps.unsqueeze(0)))[0] - 0.5 * eps.square().sum()

    zero = torch.zeros(3)
    precision = -torch.autograd.functional.hessian(log_density, zero).double()
    slope = torch.autograd.functional.jacobian(log_density, zero).double()
    return torch.linalg.solve(precision, slope), torch.linalg.inv(precision)


def test_draws_have_the_exact_moments_of_the_product_of_conditionals():
    """12,000 independent chains on each of three layers, five standard errors; the joint density's are far off."""
    draws = sampler().draw(ladder_prior(), 3, 12_000, make_rng("draws"), quiet)
    assert draws.eps.shape == (12_000, 3)
    assert worst_moment_error(draws.eps, *exact_moments()) < SIGMAS
    assert worst_moment_error(draws.eps, *joint_moments()) > 5 * SIGMAS
    assert 0.5 < draws.diagnostics["acceptance"] < 1
    assert draws.diagnostics["langevin_steps"] == 40


def test_layers_without_an_energy_stay_standard_normal():
    prior = ladder_prior()
    for number in ("2", "3"):
        del prior.energy.nets[number]
    eps = sampler().draw(prior, 3, 6000, make_rng("draws"), quiet).eps[:, 1:]
    assert worst_moment_error(eps, torch.zeros(2).double(), torch.eye(2).double()) < SIGMAS


def test_chain_on_a_layer_passes_through_that_layer_alone(monkeypatch):
    """A value before the first step and one a step, and the way on: (steps + 2) passes through each layer."""
    hierarchy = ResidualHierarchy((1, 2, 2), layers_per_scale=[4], latent_channels=3, channels=[8])
    hierarchy.initialise(make_rng("backbone"))
    prior = SequentialPrior(hierarchy.requires_grad_(False), energy=spec("energy", name="context", hidden=4))
    prior.initialise(make_rng("energy"))
    passed, descend = [], hierarchy.descend

    def counted(above, eps):
        passed.append(len(above.z))
        return descend(above, eps)

    monkeypatch.setattr(hierarchy, "descend", counted)
    sampler(steps=5, step_size=0.3).draw(prior, 12, 10, make_rng("draws"), quiet)
    assert [passed.count(above) for above in range(4)] == [7] * 4


def test_count_need_not_be_a_multiple_of_the_chains():
    assert sampler(steps=2).draw(ladder_prior(), 3, 3001, make_rng("draws"), quiet).eps.shape == (3001, 3)


def test_divergence_on_any_layer_stops_the_draw():
    prior = ladder_prior([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-1e30, 0.0, 0.0, 0.0]])
    with pytest.raises(DivergedError, match="not finite"):
        sampler(steps=20, adjusted=False).draw(prior, 3, 10, make_rng("draws"), quiet)
