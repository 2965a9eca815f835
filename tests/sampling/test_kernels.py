"""Kernels against closed forms: moments, invariance, detailed balance."""

import math

import pytest
import torch
from oracles import SIGMAS, grid, mild_prior, quadratic_prior, worst_moment_error
from torch.distributions import Independent, Normal

from jebm.models.backbones.base import Hierarchy, TopDown, standard_normal_log_prob
from jebm.models.priors.gaussian import GaussianPrior
from jebm.runtime.random import make_rng
from jebm.sampling.langevin import Langevin
from jebm.sampling.pcnl import CrankNicolsonLangevin
from jebm.sampling.run import run_chain
from jebm.sampling.target import State, Target

ADJUSTED = [
    pytest.param(Langevin(step_size=0.6, adjusted=True), id="mala"),
    pytest.param(CrankNicolsonLangevin(step_size=0.6, adjusted=True), id="pcnl"),
]


class ScaleHierarchy(Hierarchy):
    """z_2 = ε_2, z_1 | z_2 ~ N(0, e^{2 z_2}): an example in which the biased base density matters."""

    latent_shapes = ((1,), (1,))
    image_shape = (1, 1, 1)

    def top_down(self, eps):
        z = eps[0] * torch.exp(eps[1]), eps[1]
        return TopDown(z, z)

    def condition(self, z):
        terms = Normal(0.0, torch.exp(z[1])).log_prob(z[0]), Normal(0.0, 1.0).log_prob(z[1])
        return TopDown(z, z), torch.cat(terms, 1)

    def decode(self, top):
        raise NotImplementedError

    def infer(self, x, rng):
        raise NotImplementedError

    def initialise(self, rng):
        """No parameters."""


def start(count, dimensions, *name):
    return torch.randn(count, dimensions, generator=make_rng("start", *name))


def tilt(x):
    """Neither even nor quadratic, with a gradient that is easy by hand."""
    return torch.sin(2 * x).sum(1) - 0.3 * (x[:, 0] * x[:, 1]).square()


def tilt_gradient(x):
    gradient = 2 * torch.cos(2 * x)
    gradient[:, 0] -= 0.6 * x[:, 0] * x[:, 1].square()
    gradient[:, 1] -= 0.6 * x[:, 1] * x[:, 0].square()
    return gradient


# Moments -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ADJUSTED)
def test_adjusted_chain_samples_the_gaussian_tilt(kernel):
    """4,000 independent chains from N(0, I): mean and covariance within 5 standard errors of the exact ones."""
    _, prior, exact = quadratic_prior()
    result = run_chain(kernel, Target(prior.tilt), start(4000, 5), 60, make_rng("adjusted", type(kernel).__name__))
    assert 0.5 < result.acceptance < 0.999
    assert worst_moment_error(result.x, exact.mean, exact.cov) < SIGMAS


def test_that_precision_sees_the_bias_of_an_unadjusted_chain():
    """The control of the test above: without the Metropolis step the same comparison fails by far."""
    _, prior, exact = quadratic_prior()
    kernel = Langevin(step_size=0.6, adjusted=False)
    result = run_chain(kernel, Target(prior.tilt), start(4000, 5), 60, make_rng("unadjusted"))
    assert worst_moment_error(result.x, exact.mean, exact.cov) > 2 * SIGMAS


@pytest.mark.parametrize("kernel", ADJUSTED)
def test_adjusted_chain_samples_a_non_gaussian_tilt(kernel):
    """Mean, second moments and a skewness of 6,000 chains against quadrature, 5 standard errors each."""
    _, prior = mild_prior()
    quadrature = grid()

    def moments(x):
        return torch.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1], x[:, 0] ** 3], 1)

    exact = quadrature.mean(prior.log_prob(quadrature.points), moments(quadrature.points.double()))
    result = run_chain(kernel, Target(prior.tilt), start(6000, 2), 60, make_rng("mild", type(kernel).__name__))
    found = moments(result.x.double())
    errors = (found.mean(0) - exact) / (found.std(0) / math.sqrt(len(found)))
    assert errors.abs().max() < SIGMAS
    gaussian = quadrature.mean(standard_normal_log_prob(quadrature.points), moments(quadrature.points.double()))
    assert ((exact - gaussian) / (found.std(0) / math.sqrt(len(found)))).abs().max() > 2 * SIGMAS  # the tilt shows


def test_unadjusted_langevin_inflates_the_variance_by_the_known_factor():
    """1 / (1 − s²/4) = 1.042 at s = 0.4. 200,000 coordinates: the standard error is 0.0033, a 13th of the excess."""
    kernel, zero = Langevin(step_size=0.4, adjusted=False), Target(lambda x: torch.zeros(len(x)))
    x = run_chain(kernel, zero, start(5000, 40), 40, make_rng("ula")).x
    expected = 1 / (1 - 0.4**2 / 4)
    assert abs(x.var() - expected) < SIGMAS * expected * math.sqrt(2 / x.numel())


def test_metropolis_test_removes_the_inflation():
    kernel, zero = Langevin(step_size=0.4, adjusted=True), Target(lambda x: torch.zeros(len(x)))
    result = run_chain(kernel, zero, start(20_000, 10), 40, make_rng("mala"))
    assert result.acceptance < 0.999
    assert abs(result.x.var() - 1) < SIGMAS * math.sqrt(2 / result.x.numel())


# Invariance of N(0, I), and the wrong density ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(CrankNicolsonLangevin(step_size=0.9, adjusted=False), id="pcnl unadjusted"),
        pytest.param(CrankNicolsonLangevin(step_size=0.9, adjusted=True), id="pcnl"),
        pytest.param(Langevin(step_size=0.9, adjusted=True), id="mala"),
    ],
)
def test_no_energy_leaves_the_gaussian_prior_alone(kernel):
    prior = GaussianPrior(ScaleHierarchy())
    result = run_chain(kernel, Target(prior.tilt), start(20_000, 2), 30, make_rng("invariant", kernel.adjusted))
    assert worst_moment_error(result.x, torch.zeros(2), torch.eye(2)) < SIGMAS


def test_crank_nicolson_without_energy_accepts_everything():
    kernel, zero = CrankNicolsonLangevin(step_size=0.9, adjusted=True), Target(lambda x: torch.zeros(len(x)))
    result = run_chain(kernel, zero, start(500, 6), 20, make_rng("accepts"))
    assert result.acceptance > 0.9999  # rounding may reject one or two proposals


@pytest.mark.parametrize("kernel", ADJUSTED)
def test_whitened_target_keeps_the_upper_mean_where_the_wrong_base_density_drifts_to_minus_one(kernel):
    """f = 0, z_1 | z_2 ~ N(0, e^{2 z_2}); log p_β(T(ε)) in place of log N(ε) has the exact mean −1 of ε_2."""
    hierarchy = ScaleHierarchy()

    def wrong(eps):
        return hierarchy.log_prob(hierarchy.top_down_flat(eps).z) - standard_normal_log_prob(eps)

    ends = {
        name: run_chain(kernel, Target(function), start(4000, 2), 60, make_rng("toy", name)).x[:, 1]
        for name, function in {"right": GaussianPrior(hierarchy).tilt, "wrong": wrong}.items()
    }
    error = SIGMAS / math.sqrt(4000)  # both have unit variance
    assert abs(ends["right"].mean()) < error
    assert abs(ends["wrong"].mean() + 1) < error


def test_target_is_the_prior_it_is_made_of():
    """Value up to a constant and gradient of the target equal those of the prior's own log density."""
    _, prior = mild_prior()
    x = start(8, 2)
    value, gradient = Target(prior.tilt).log_prob_and_gradient(x)
    leaf = x.clone().requires_grad_()
    expected = prior.log_prob(leaf)
    torch.testing.assert_close(value, expected.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), leaf)[0], rtol=0, atol=1e-5)


def test_flat_target_is_the_function_itself():
    x = start(8, 2)
    value, gradient = Target(tilt, gaussian_base=False).log_prob_and_gradient(x)
    torch.testing.assert_close(value, tilt(x))
    torch.testing.assert_close(gradient, tilt_gradient(x))


def test_crank_nicolson_refuses_a_target_without_a_gaussian_base():
    kernel = CrankNicolsonLangevin(step_size=0.5)
    with pytest.raises(ValueError, match="whitened"):
        run_chain(kernel, Target(tilt, gaussian_base=False), start(2, 2), 1, make_rng(0))


# Detailed balance ----------------------------------------------------------------------------------------------------


def mala_proposal(x, s):
    return Independent(Normal(x + s**2 / 2 * (tilt_gradient(x) - x), s), 1)


def pcnl_proposal(x, s):
    a = math.sqrt(1 - s**2)
    return Independent(Normal(a * x + (1 - a) * tilt_gradient(x), s), 1)


@pytest.mark.parametrize(
    ("kernel", "proposal"),
    [
        pytest.param(Langevin(step_size=0.6, adjusted=True), mala_proposal, id="mala"),
        pytest.param(CrankNicolsonLangevin(step_size=0.6, adjusted=True), pcnl_proposal, id="pcnl"),
    ],
)
def test_kernel_proposes_from_and_balances_the_density_it_states(kernel, proposal):
    """log π(x) + log q(x→y) + log a(x→y) is symmetric, with π, q and the gradient by hand and a from the kernel."""
    rng = make_rng("balance")
    x, y = torch.randn(2, 200, 3, generator=rng, dtype=torch.float64) * 1.5
    target = Target(tilt)
    at_x, at_y = kernel.evaluate(target, x), kernel.evaluate(target, y)
    torch.testing.assert_close(kernel.propose_mean(at_x.x, at_x.gradient), proposal(x, kernel.step_size).mean)

    def log_flow(old, new, ratio):
        log_pi = tilt(old) + Normal(0.0, 1.0).log_prob(old).sum(1)
        return log_pi + proposal(old, kernel.step_size).log_prob(new) + ratio.clamp(max=0)

    ratio = kernel.log_ratio(at_x, at_y)
    assert ratio.min() < -1
    assert ratio.max() > 1
    forth, back = log_flow(x, y, ratio), log_flow(y, x, kernel.log_ratio(at_y, at_x))
    torch.testing.assert_close(forth, back, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kernel", [Langevin(step_size=0.3), CrankNicolsonLangevin(step_size=0.3, adjusted=False)])
def test_step_adds_noise_of_the_stated_size_to_the_proposed_mean(kernel):
    state = kernel.evaluate(Target(tilt), start(1, 3).expand(20_000, 3))
    new, accepted = kernel.step(Target(tilt), state, make_rng("noise"))
    assert accepted.all()
    assert (
        worst_moment_error(new.x - kernel.propose_mean(state.x, state.gradient), torch.zeros(3), 0.09 * torch.eye(3))
        < SIGMAS
    )


def test_acceptance_frequency_is_the_metropolis_probability():
    """From one state, 40,000 proposals: accepted are E[min(1, e^ratio)] of them, within 5 standard errors."""
    kernel = CrankNicolsonLangevin(step_size=0.8, adjusted=True)
    target, x = Target(tilt), torch.tensor([[0.4, -0.2, 0.9]]).expand(40_000, 3)
    state = kernel.evaluate(target, x)
    new, accepted = kernel.step(target, state, make_rng("frequency"))
    noise = torch.randn(40_000, 3, generator=make_rng("other noise"))
    proposed = kernel.evaluate(target, kernel.propose_mean(state.x, state.gradient) + 0.8 * noise)
    chance = kernel.log_ratio(state, proposed).clamp(max=0).exp()
    error = math.sqrt((chance.var() + 0.25) / 40_000)
    assert abs(accepted.float().mean() - chance.mean()) < SIGMAS * error
    assert 0.2 < chance.mean() < 0.9
    assert torch.equal(new.x[~accepted], x[~accepted])
    assert (new.x[accepted] != x[accepted]).any(1).all()


def test_langevin_with_autograd_repeats_one_by_hand():
    """Five steps with shared noise and the gradient written out: only rounding differs."""
    kernel, by_hand = Langevin(step_size=0.3), start(50, 3)
    end = run_chain(kernel, Target(tilt), by_hand, 5, make_rng("shared")).x
    noise = make_rng("shared")
    for _ in range(5):
        xi = torch.randn(50, 3, generator=noise)
        by_hand = by_hand + 0.045 * (tilt_gradient(by_hand) - by_hand) + 0.3 * xi
    torch.testing.assert_close(end, by_hand, rtol=0, atol=1e-5)


def test_state_where_mixes_chain_by_chain():
    new = State(torch.ones(3, 2), torch.ones(3), torch.ones(3, 2))
    old = State(torch.zeros(3, 2), torch.zeros(3), torch.zeros(3, 2))
    mixed = new.where(torch.tensor([True, False, True]), old)
    assert mixed.x.tolist() == [[1, 1], [0, 0], [1, 1]]
    assert mixed.value.tolist() == [1, 0, 1]
    assert torch.equal(mixed.gradient, mixed.x)
