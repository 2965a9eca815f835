"""The recovery prior: its conditionals against quadrature, its draws with known energies, and what it learns."""

import math

import pytest
import torch
from latent_targets import FACTOR, MEAN, Known, Plain, fitted, noisy_ratio, share_of_first_mode
from oracles import SIGMAS, grid, spec, worst_moment_error

from jebm.config.components import build
from jebm.config.training import TrainPrior
from jebm.models.priors.base import build_prior
from jebm.runtime.random import make_rng
from jebm.training import recovery

ENERGY = {"name": "layerwise", "hidden": 8, "depth": 1}
KERNEL = {"name": "pcnl", "step_size": 0.7}


def short_run(steps):
    return {"name": "short-run", "kernel": KERNEL, "steps": steps}


def known_prior(target, levels=3):
    """All levels have the energies of the noisy target."""
    prior = build_prior(spec("prior", name="recovery", energy=ENERGY, levels=levels), Plain(target))
    prior.energy = Known(noisy_ratio(target, 1.0))
    for level in range(1, levels):
        prior.noisy[level - 1] = Known(noisy_ratio(target, prior.data_share(level)))
    return prior


def draws(prior, count, steps=20):
    sampler = build("sampler", {"name": "levels", "kernel": KERNEL, "steps": steps})
    return sampler.draw(prior.requires_grad_(False), 2, count, make_rng("draws"), lambda *_: None)


@pytest.mark.parametrize("levels", [1, 3, 6])
def test_noise_keeps_the_variance_and_ends_without_data(levels):
    prior = build_prior(spec("prior", name="recovery", energy=ENERGY, levels=levels), Plain("gaussian"))
    assert prior.data_share(0) == 1
    assert prior.kept(levels - 1) == 0
    product = math.prod(prior.kept(level) ** 2 for level in range(levels - 1))
    assert product == pytest.approx(prior.data_share(levels - 1))
    assert len(list(prior.noisy)) == levels - 1


def test_conditional_of_a_level_is_a_tilt_of_the_standard_normal():
    """exp f_t(a ε' + s η) N(η; 0, I) is p_t(ε) N(ε'; a ε, s²) up to a constant, at any given ε'."""
    prior, points = known_prior("two modes"), grid(3, 21).points
    for level in (0, 1):
        above, kept = torch.tensor([[0.7, -0.4]]), prior.kept(level)
        noise = math.sqrt(1 - kept**2)
        with torch.no_grad():
            eps = prior.at(level, above, points)
            tilted = prior.tilt_at(level, eps) - 0.5 * points.square().sum(1)
            joint = prior.tilt_at(level, eps) - 0.5 * eps.square().sum(1)
        joint = joint - 0.5 * ((above - kept * eps) / noise).square().sum(1)
        difference = tilted - joint
        torch.testing.assert_close(difference, difference[:1].expand(len(points)), atol=2e-4, rtol=0)


@pytest.mark.parametrize("energy", ["layerwise", "context"])
def test_without_energies_the_draws_are_standard_normal_after_any_steps(energy):
    prior = build_prior(spec("prior", name="recovery", energy={**ENERGY, "name": energy}), Plain("gaussian"))
    prior.initialise(make_rng("zero"))
    assert worst_moment_error(draws(prior, 20_000, steps=1).eps, torch.zeros(2), torch.eye(2)) < SIGMAS


def test_draws_with_the_energies_of_a_gaussian_have_its_moments():
    found = draws(known_prior("gaussian"), 4000, steps=30)
    assert worst_moment_error(found.eps, MEAN.double(), (FACTOR @ FACTOR.T).double()) < SIGMAS
    assert found.diagnostics["langevin_steps"] == 90


def test_draws_with_the_energies_of_two_modes_have_their_weights():
    """Levels of noise carry the weights, which a chain on the density alone would not find from N(0, I)."""
    found = draws(known_prior("two modes", levels=6), 2000, steps=20)
    assert share_of_first_mode(found.eps) == pytest.approx(0.7, abs=5 * math.sqrt(0.21 / 2000))


def loss_gradients(prior, batches=12, count=1000):
    settings = TrainPrior(steps=1, batch_size=8, learning_rate=0.1, estimator=short_run(25))
    loss = recovery.RecoveryLoss(prior, torch.zeros(count, 1, 1, 1), settings, make_rng("loss"))
    slopes = [prior.energy_at(level).nets["slope"].weight for level in range(prior.levels)]
    found = [torch.stack(torch.autograd.grad(loss(0, torch.arange(count))[0], slopes)) for _ in range(batches)]
    return torch.stack(found).flatten(1)


def test_likelihood_has_no_slope_at_the_energies_of_the_noisy_data():
    """For every level and each monomial to the second degree, five standard errors; with a wrong energy it has."""
    prior = known_prior("gaussian")
    found = loss_gradients(prior)
    error = found.std(0) / math.sqrt(len(found))
    assert (found.mean(0).abs() < SIGMAS * error).all()
    prior.noisy[0].nets["slope"].weight.data[0, 0] = 0.5
    wrong = loss_gradients(prior)
    assert (wrong.mean(0)[5] / error[5]).abs() > 3 * SIGMAS
    assert wrong.mean(0)[5] > 0  # a step against the gradient lowers the weight that is too high


def test_recovery_learns_a_gaussian(tmp_path):
    prior = build_prior(spec("prior", name="recovery", energy=ENERGY, levels=2), Plain("gaussian"))
    prior.energy, prior.noisy[0] = Known(lambda eps: 0 * eps[:, 0]), Known(lambda eps: 0 * eps[:, 0])
    values = {"steps": 120, "batch_size": 400, "learning_rate": 0.05, "ema": 0.95, "estimator": short_run(10)}
    result = fitted(recovery.fit, prior, tmp_path, **values)
    quadrature = grid(6, 121)
    with torch.no_grad():
        log_p = prior.log_prob(quadrature.points)
    mean = quadrature.mean(log_p, quadrature.points)
    assert torch.allclose(mean, MEAN.double(), atol=0.08)
    centred = quadrature.points.double() - mean
    cov = quadrature.mean(log_p, centred.unsqueeze(2) * centred.unsqueeze(1))
    assert torch.allclose(cov, (FACTOR @ FACTOR.T).double(), atol=0.08)
    assert {"energy_gap", "gap_level_0", "gap_level_1", "acceptance"} < set(result.history[0])


def test_levels_share_no_parameters_and_all_of_them_are_saved_and_trained(tmp_path):
    prior = build_prior(spec("prior", name="recovery", energy=ENERGY, levels=3), Plain("gaussian"))
    fitted(recovery.fit, prior, tmp_path, estimator=short_run(2), steps=3, batch_size=20)
    outputs = [prior.energy_at(level).nets["1"][-1].weight for level in range(3)]
    assert all(weight.abs().sum() > 0 for weight in outputs)
    assert not torch.equal(outputs[0], outputs[1])
    assert sum(name.endswith("nets.1.0.weight") for name in prior.state_dict()) == 3
