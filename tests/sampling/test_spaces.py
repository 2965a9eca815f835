"""T maps the density of one space to that of the other, and f is the same in both."""

import pytest
import torch
from funnel import Funnel
from oracles import SIGMAS, TiltPrior, grid, mild_prior, spec

from jebm.config.components import build
from jebm.errors import JebmError
from jebm.models.backbones.base import flatten
from jebm.models.energies.zero import ZeroPrior
from jebm.models.priors.ebm import JointPrior
from jebm.runtime.random import make_rng
from jebm.sampling.langevin import Langevin
from jebm.sampling.partition import resample
from jebm.sampling.pcnl import CrankNicolsonLangevin
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import Latent, Whitened, WhitenedBiased


def pair():
    hierarchy, prior = mild_prior()
    return Whitened(hierarchy, prior), Latent(hierarchy, prior)


def points(count=20):
    eps = torch.randn(count, 2, generator=make_rng("points"))
    hierarchy, _ = mild_prior()
    return eps, flatten(hierarchy.top_down_flat(eps).z)


def test_densities_differ_by_the_jacobian_of_the_transform():
    whitened, latent = pair()
    eps, z = points()
    hierarchy, _ = mild_prior()
    jacobian = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda e: flatten(hierarchy.top_down_flat(e.unsqueeze(0)).z)[0], row)
            for row in eps
        ]
    )
    in_eps = whitened.target().log_prob_and_gradient(eps)[0]
    in_z = latent.target().log_prob_and_gradient(z)[0]
    log_det = torch.linalg.det(jacobian).abs().log()
    torch.testing.assert_close(in_eps - in_z, log_det, rtol=0, atol=1e-4)
    assert log_det.std() > 0.01  # so that a constant would not do


def test_f_and_the_images_are_the_same_in_both_spaces():
    whitened, latent = pair()
    eps, z = points()
    torch.testing.assert_close(whitened.tilt(eps), latent.tilt(z), rtol=0, atol=1e-5)
    assert whitened.tilt(eps).std() > 0.1
    for ours, theirs in zip(whitened.top_down(eps).z, latent.top_down(z).z, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_generator_start_gives_corresponding_states_in_both_spaces():
    whitened, latent = pair()
    eps = whitened.start("prior", 30, make_rng("start"))
    z = latent.start("prior", 30, make_rng("start"))
    torch.testing.assert_close(z, flatten(whitened.top_down(eps).z))
    assert torch.equal(latent.start("normal", 30, make_rng("start")), eps)
    assert torch.equal(whitened.start("normal", 30, make_rng("start")), eps)


def test_posteriors_differ_by_the_jacobian_of_the_transform():
    """log p(x, ε) − log p(x, z) = log |det ∂T/∂ε|, and log p(x, z) is the sum of its three parts."""
    whitened, latent = pair()
    hierarchy, prior = mild_prior()
    eps, z = points()
    x = torch.rand(20, 1, 2, 2, generator=make_rng("images")) * 2 - 1
    in_eps, in_z = (space.posterior(x).log_prob_and_gradient(at)[0] for space, at in ((whitened, eps), (latent, z)))
    prior_eps, prior_z = (space.target().log_prob_and_gradient(at)[0] for space, at in ((whitened, eps), (latent, z)))
    torch.testing.assert_close(in_eps - in_z, prior_eps - prior_z, rtol=0, atol=1e-4)
    top, log_p = hierarchy.condition(hierarchy.split(z))
    parts = hierarchy.decode(top).log_prob(x) + prior.energy(top) + log_p.sum(1)
    torch.testing.assert_close(in_z, parts, rtol=0, atol=1e-4)


def test_gradient_of_the_posterior_in_z_by_finite_differences():
    _, latent = pair()
    x = torch.rand(20, 1, 2, 2, generator=make_rng("images")) * 2 - 1
    _, z = points()
    target = latent.posterior(x)
    _, gradient = target.log_prob_and_gradient(z)
    for column in range(2):
        step = torch.zeros(2).index_fill(0, torch.tensor(column), 1e-2)
        with torch.no_grad():
            slope = (target.log_prob(z + step) - target.log_prob(z - step)) / 2e-2
        torch.testing.assert_close(gradient[:, column], slope, rtol=0.02, atol=0.02)


def test_from_noise_and_to_noise_are_inverse():
    for space, (eps, z) in zip(pair(), [(points()[0],) * 2, points()], strict=True):
        torch.testing.assert_close(space.from_noise(eps), z)
        torch.testing.assert_close(space.to_noise(z), eps, rtol=0, atol=1e-5)
        torch.testing.assert_close(flatten(space.latents(z)), points()[1])


@pytest.mark.parametrize("start", ["normal", "prior"])
def test_sampler_in_z_gives_whitened_draws_of_the_same_density(start):
    """Chains that run on z and are handed on as ε: f, E[ε] and E[ε²] against quadrature."""
    _, prior = mild_prior()
    block = {"kernel": {"name": "langevin", "step_size": 0.25, "adjusted": True}, "steps": 150, "space": "z"}
    sampler = build("sampler", spec("sampler", name="mcmc", chains=1000, start=start, **block))
    draws = sampler.draw(prior, 2, 2000, make_rng("sampler"), lambda *_: None)
    assert 0.3 < draws.diagnostics["acceptance"] < 0.99
    quadrature = grid()

    def statistics(eps):
        return torch.cat([prior.tilt(eps).unsqueeze(1), eps, eps.square()], 1).double()

    exact = quadrature.mean(prior.log_prob(quadrature.points), statistics(quadrature.points))
    found = statistics(draws.eps)
    assert ((found.mean(0) - exact).abs() / (found.std(0) / len(found) ** 0.5)).max() < SIGMAS
    z = flatten(prior.hierarchy.top_down_flat(draws.eps).z)
    assert not torch.allclose(z, draws.eps, atol=0.05)


def test_adjusted_chain_in_z_keeps_the_density_of_whitened_space():
    """From nearly exact draws, 40 steps in z: mean f and E[ε²] seen through z against quadrature, 5 standard errors."""
    _, latent = pair()
    hierarchy, prior = mild_prior()
    quadrature = grid()
    eps, _ = resample(prior, 2, 2000, 100_000, make_rng("exact"))
    z = flatten(hierarchy.top_down_flat(eps).z)
    result = run_chain(Langevin(step_size=0.15, adjusted=True), latent.target(), z, 40, make_rng("z chain"))
    assert 0.3 < result.acceptance < 0.99
    assert not torch.allclose(result.x, z)

    def statistics(top, f):
        return torch.stack([f, top.z[0][:, 0], top.z[1][:, 0], top.z[0][:, 0] ** 2, top.z[1][:, 0] ** 2], 1).double()

    on_grid = statistics(hierarchy.top_down_flat(quadrature.points), prior.tilt(quadrature.points))
    exact = quadrature.mean(prior.log_prob(quadrature.points), on_grid)
    found = statistics(latent.top_down(result.x), latent.tilt(result.x))
    assert ((found.mean(0) - exact).abs() / (found.std(0) / len(found) ** 0.5)).max() < SIGMAS


def test_prior_without_an_energy_of_z_is_refused_in_z():
    hierarchy, _ = mild_prior()
    with pytest.raises(JebmError, match="TiltPrior has none"):
        Latent(hierarchy, TiltPrior(lambda x: x[:, 0]))


def test_biased_density_is_that_of_z_taken_for_that_of_the_noise():
    hierarchy, prior = mild_prior()
    biased, (_, latent) = WhitenedBiased(hierarchy, prior), pair()
    eps, z = points()
    torch.testing.assert_close(biased.target().log_prob(eps), latent.target().log_prob(z), rtol=0, atol=1e-4)
    assert (biased.target().log_prob(eps) - Whitened(hierarchy, prior).target().log_prob(eps)).std() > 0.01
    torch.testing.assert_close(biased.tilt(eps), prior.tilt(eps))  # f itself is the same


@pytest.mark.parametrize(
    "kernel", [Langevin(step_size=0.5), Langevin(step_size=0.5, adjusted=True), CrankNicolsonLangevin(step_size=0.6)]
)
def test_noise_stays_standard_normal_under_the_exact_density_and_drifts_under_the_biased_one(kernel):
    """f = 0 on a funnel: the mean of z_2 stays 0 under the one and goes to −1 under the other."""
    hierarchy, chains = Funnel(), 4000
    prior = ZeroPrior(hierarchy)
    ends = {}
    for space in (Whitened(hierarchy, prior), WhitenedBiased(hierarchy, prior)):
        start = space.start("normal", chains, make_rng("funnel"))
        ends[type(space)] = run_chain(kernel, space.target(), start, 80, make_rng("funnel chain")).x
    variance = kernel.variance_on_normal(80)
    noise = (variance / chains) ** 0.5
    assert variance == pytest.approx(1 if kernel.adjusted else 1 / (1 - 0.5**2 / 4), rel=1e-3)
    exact, biased = ends[Whitened], ends[WhitenedBiased]
    assert (exact.mean(0).abs() < SIGMAS * noise).all()
    assert ((exact.var(0) - variance).abs() < SIGMAS * variance * (2 / chains) ** 0.5).all()
    # Unadjusted Langevin on N(−1, 1) has that very mean; 80 steps forget N(0, 1) to within 3e-5.
    assert abs(biased[:, 1].mean() + 1) < SIGMAS * noise
    assert abs(biased[:, 1].var() - variance) < SIGMAS * variance * (2 / chains) ** 0.5


def test_variance_that_the_step_size_predicts():
    assert Langevin(step_size=0.4).variance_on_normal(0) == 1
    assert Langevin(step_size=0.4).variance_on_normal(1) == pytest.approx((1 - 0.08) ** 2 + 0.16)
    assert Langevin(step_size=0.4).variance_on_normal(500) == pytest.approx(1.0417, abs=1e-4)
    assert Langevin(step_size=0.4, adjusted=True).variance_on_normal(500) == 1
    assert CrankNicolsonLangevin(step_size=0.4, adjusted=False).variance_on_normal(500) == 1


def constant_conditional(floor):
    """The convolutional hierarchy with p(z_1 | z_2) = N(0, floor²): σ is at its floor and the mean at 0."""
    block = {"latent_dims": [6, 2], "channels": [2, 2], "hidden": 3, "depth": 1, "inference_features": 2}
    hierarchy = build("backbone", spec("backbone", name="convolutional", **block, min_sigma=floor), (1, 4, 4))
    hierarchy.initialise(make_rng("constant"))
    with torch.no_grad():
        hierarchy.generator_nets[0][-1].weight.zero_()
        hierarchy.generator_nets[0][-1].bias.copy_(torch.tensor([0.0] * 6 + [-40.0] * 6))
    prior = JointPrior(hierarchy, energy=spec("energy", name="layerwise", hidden=2, depth=1))
    prior.initialise(make_rng("no energy"))
    prior.requires_grad_(False)
    return hierarchy.requires_grad_(False), prior


@pytest.mark.parametrize("floor", [0.25, 0.4])
def test_unadjusted_steps_in_z_widen_a_scale_above_half_the_step_as_computed(floor):
    """Stationary variance σ²/(1 − s²/(4σ²)), by the published chain: 60 steps of 0.4 from N(0, I)."""
    _, prior = constant_conditional(floor)
    space = Latent(prior.hierarchy, prior)
    start = space.start("normal", 4000, make_rng("start"))
    z = run_chain(Langevin(step_size=0.4), space.target(), start, 60, make_rng("chain")).x[:, :6].double()
    expected = floor**2 / (1 - 0.16 / (4 * floor**2))
    assert abs(z.square().mean() / expected - 1) < SIGMAS * (2 / z.numel()) ** 0.5
    assert expected > 1.1 * floor**2


def test_unadjusted_steps_in_z_leave_a_scale_below_half_the_step():
    """At the published floor they overflow; just below half the step the distance grows by 1 − s²/(2σ²) a step."""
    for floor, steps in ((0.19, 60), (0.01, 60)):
        _, prior = constant_conditional(floor)
        space = Latent(prior.hierarchy, prior)
        start = space.start("normal", 100, make_rng("start"))
        result = run_chain(Langevin(step_size=0.4), space.target(), start, steps, make_rng("chain"))
        if floor == 0.01:
            assert result.non_finite == 100
        else:
            factor = abs(1 - 0.16 / (2 * floor**2)) ** steps
            assert factor > 100
            assert result.x[:, :6].std() > 0.5 * factor
