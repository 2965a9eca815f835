"""The diffusion prior: its density and its draws for a Gaussian, where E[v | x] is linear, and what it learns."""

import math

import pytest
import torch
from latent_targets import FACTOR, MEAN, TARGETS, divergence, fitted, gaussian_log_prob, ladder, share_of_first_mode
from oracles import grid, spec, worst_moment_error

from jebm.config.components import build
from jebm.models.backbones.base import standard_normal_log_prob
from jebm.models.priors.base import build_prior
from jebm.models.priors.diffusion import DiffusionPrior
from jebm.runtime.random import make_rng
from jebm.training import diffusion
from jebm.training.diffusion import DenoisingLoss

COV = FACTOR @ FACTOR.T


class Exact(DiffusionPrior):
    """The velocity E[v | x(θ)] of the Gaussian target, with its constant divergence."""

    def _linear(self, angle):
        cos, sin = angle.cos()[:, :, None], angle.sin()[:, :, None]
        marginal = cos**2 * COV + sin**2 * torch.eye(2)
        return cos * sin * (torch.eye(2) - COV) @ torch.linalg.inv(marginal)

    def velocity(self, x, angle):
        return self.velocity_and_divergence(x, angle)[0]

    def velocity_and_divergence(self, x, angle):
        matrix = self._linear(angle)
        centred = (x - angle.cos() * MEAN).unsqueeze(2)
        return (matrix @ centred).squeeze(2) - angle.sin() * MEAN, matrix.diagonal(dim1=1, dim2=2).sum(1)


def random_diffusion(hidden=16):
    prior = DiffusionPrior(ladder("gaussian"), hidden=hidden, ode_steps=12).requires_grad_(False)
    rng = make_rng("random diffusion")
    prior.initialise(rng)
    prior.net[-1].weight.normal_(0, 0.3, generator=rng)
    prior.net[0].weight.normal_(0, 0.5, generator=rng)
    return prior


def test_diffusion_starts_as_the_gaussian_prior():
    prior = DiffusionPrior(ladder("gaussian"))
    prior.initialise(make_rng("start"))
    eps = torch.randn(20, 2, generator=make_rng("eps"))
    torch.testing.assert_close(prior.tilt(eps), torch.zeros(20))
    loss, _ = DenoisingLoss(prior, torch.zeros(20, 1, 1, 1), make_rng("loss"))(0, torch.arange(20))
    loss.backward()
    assert prior.net[-1].weight.grad.abs().sum() > 0


def test_divergence_is_that_of_autograd():
    prior = random_diffusion()
    x, angle = torch.randn(6, 2, generator=make_rng("x")), torch.linspace(0, 1.5, 6).unsqueeze(1)
    velocity, found = prior.velocity_and_divergence(x, angle)
    torch.testing.assert_close(velocity, prior.velocity(x, angle))
    jacobians = [torch.func.jacrev(lambda e, a=a: prior.velocity(e[None], a[None])[0])(e) for e, a in zip(x, angle)]  # noqa: B905
    torch.testing.assert_close(found, torch.stack([matrix.trace() for matrix in jacobians]))


def test_ode_of_a_gaussian_gives_its_density_and_the_error_falls_with_the_steps():
    eps = 1.2 * torch.randn(200, 2, generator=make_rng("eps"))
    exact = gaussian_log_prob(eps)
    errors = []
    for steps in (4, 8, 16):
        prior = Exact(ladder("gaussian"), ode_steps=steps)
        errors.append(float((prior.log_prob(eps) - exact).abs().max()))
        change = float((prior.tilt_in_steps(eps, 2 * steps) - prior.tilt(eps)).abs().max())
        assert change == pytest.approx(errors[-1], rel=0.3, abs=5e-5)  # what the evaluation reports is the error
    assert errors[0] > 8 * errors[1]  # of the fourth order
    assert errors[-1] < 2e-4


def test_density_of_any_network_integrates_to_one():
    prior, quadrature = random_diffusion(), grid(8, 161)
    log_p = prior.log_prob(quadrature.points)
    assert quadrature.log_integral(log_p) == pytest.approx(0, abs=2e-3)
    assert (log_p - standard_normal_log_prob(quadrature.points))[quadrature.points.norm(dim=1) < 2].abs().max() > 0.2


@pytest.mark.parametrize(("method", "steps"), [("ode", 100), ("ancestral", 400)])
def test_denoising_draws_the_gaussian(method, steps):
    """Both errors of the steps are below a tenth of the standard errors of 3,000 draws."""
    sampler = build("sampler", {"name": "denoising", "steps": steps, "method": method})
    draws = sampler.draw(Exact(ladder("gaussian")), 2, 3000, make_rng("draws", method), lambda *_: None)
    assert worst_moment_error(draws.eps, MEAN.double(), COV.double()) < 5
    assert draws.diagnostics == {"langevin_steps": steps}


@pytest.mark.parametrize("method", ["ode", "ancestral"])
def test_a_few_steps_without_a_network_keep_the_standard_normal(method):
    prior = DiffusionPrior(ladder("gaussian"))
    prior.initialise(make_rng("start"))
    sampler = build("sampler", {"name": "denoising", "steps": 3, "method": method})
    draws = sampler.draw(prior.requires_grad_(False), 2, 20_000, make_rng("few"), lambda *_: None)
    assert worst_moment_error(draws.eps, torch.zeros(2), torch.eye(2)) < 5


def test_conditional_mean_is_the_best_velocity():
    """The loss of the exact velocity is E|v|² − E|E[v | x]|²; every perturbation of it is worse."""
    pixels, batch = torch.zeros(4000, 1, 1, 1), torch.arange(4000)

    def loss(shift):
        class Shifted(Exact):
            def velocity(self, x, angle):
                return super().velocity(x, angle) + shift(x)

        return float(DenoisingLoss(Shifted(ladder("gaussian")), pixels, make_rng("loss"))(0, batch)[0])

    best = loss(torch.zeros_like)
    for shift in (lambda x: 0.2 + 0 * x, lambda x: 0.2 * x, lambda x: -0.2 * x, lambda x: 0.2 * x.flip(1)):
        assert loss(shift) > best + 0.01
    angle = (torch.arange(2000) + 0.5) / 2000 * math.pi / 2
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    joint = cos**2 * COV + sin**2 * torch.eye(2)
    other = cos**2 * torch.eye(2) + sin**2 * COV
    cross = cos * sin * (torch.eye(2) - COV)
    left = other - cross @ torch.linalg.inv(joint) @ cross.mT
    assert best == pytest.approx(float(left.diagonal(dim1=1, dim2=2).mean()), abs=0.03)


def test_diffusion_learns_two_separate_modes(tmp_path):
    prior = build_prior(spec("prior", name="diffusion", hidden=64, ode_steps=12), ladder("two modes"))
    before = divergence(TARGETS["two modes"][1], build_prior(spec("prior", name="gaussian"), prior.hierarchy))
    values = {"steps": 600, "batch_size": 500, "learning_rate": 5e-3, "ema": 0.98, "select": {"every": 200, "draws": 1}}
    result = fitted(diffusion.fit, prior, tmp_path, **values)
    assert divergence(TARGETS["two modes"][1], prior) < 0.08 < 0.1 * before
    assert result.facts["validation_gain"] == pytest.approx(before, abs=0.2)
    sampler = build("sampler", {"name": "denoising", "steps": 30})
    draws = sampler.draw(prior, 2, 4000, make_rng("draws"), lambda *_: None)
    assert share_of_first_mode(draws.eps) == pytest.approx(0.7, abs=0.06)
