"""log Z and resampling against closed forms and quadrature."""

import math

import pytest
import torch
from oracles import SIGMAS, TiltPrior, grid, mild_prior, quadratic_prior, spec, worst_moment_error

from jebm.config.components import build
from jebm.models.backbones.base import TopDown, standard_normal_log_prob
from jebm.models.priors.gaussian import GaussianPrior
from jebm.runtime.random import make_rng
from jebm.sampling.partition import effective_fraction, estimate_log_partition, resample, tilts


def test_log_partition_of_a_gaussian_tilt_is_exact_within_its_standard_error():
    _, prior, exact = quadratic_prior()
    found = estimate_log_partition(prior, 5, 40_000, make_rng("log z"))
    assert abs(found.value - exact.log_z) < SIGMAS * found.standard_error
    assert found.standard_error < 0.02
    assert abs(exact.log_z) > 10 * found.standard_error  # so that 0 would not do


def test_log_partition_agrees_with_quadrature_in_both_spaces():
    """∫ exp(tilt) N dε = ∫ exp(f(z)) p_β(z) dz: the second integral knows nothing of whitening."""
    hierarchy, prior = mild_prior()
    found = estimate_log_partition(prior, 2, 40_000, make_rng("mild log z"))
    quadrature = grid()
    whitened = quadrature.log_integral(prior.log_prob(quadrature.points))
    fine = grid(9, 901)  # p(z_1 | z_2) is narrow
    z = fine.points[:, :1], fine.points[:, 1:]
    direct = fine.log_integral(prior.energy(TopDown(z, z)) + hierarchy.log_prob(z))
    assert abs(quadrature.log_integral(standard_normal_log_prob(quadrature.points))) < 1e-4
    assert abs(whitened - direct) < 1e-3
    assert abs(found.value - whitened) < SIGMAS * found.standard_error
    assert found.standard_error < 0.02
    assert abs(whitened) > 10 * found.standard_error


def test_stated_standard_error_is_the_spread_of_repeated_estimates():
    """400 estimates: their deviation is known to 1/√(2·399) = 3.5 %, so 5 standard errors are 18 %."""
    _, prior, exact = quadratic_prior(strength=0.4)
    found = [estimate_log_partition(prior, 5, 500, make_rng("repeat", i)) for i in range(400)]
    values = torch.tensor([f.value for f in found], dtype=torch.float64)
    stated = torch.tensor([f.standard_error for f in found]).mean()
    assert abs(values.std() / stated - 1) < SIGMAS / math.sqrt(2 * 399)
    bias = -(stated**2) / 2  # of the logarithm of a mean, to leading order
    assert abs(values.mean() - exact.log_z - bias) < SIGMAS * values.std() / 20


def test_effective_fraction_by_hand():
    assert effective_fraction(torch.tensor([2.0, 1.0, 1.0]).double().log() + 700) == pytest.approx(16 / 18)
    assert effective_fraction(torch.zeros(7)) == pytest.approx(1)
    assert effective_fraction(torch.tensor([0.0, -1000.0, -1000.0, -1000.0])) == pytest.approx(0.25)


def test_constant_tilt_has_an_exact_log_partition():
    found = estimate_log_partition(TiltPrior(lambda x: torch.full((len(x),), 3.5)), 2, 1000, make_rng(0))
    assert found.value == pytest.approx(3.5, abs=1e-9)
    assert found.standard_error == pytest.approx(0, abs=1e-6)
    assert found.effective_fraction == pytest.approx(1)


def test_normalised_prior_needs_no_draws():
    rng = make_rng("untouched")
    before = rng.get_state()
    hierarchy, _, _ = quadratic_prior()
    assert estimate_log_partition(GaussianPrior(hierarchy), 5, 1000, rng) == (0.0, 0.0, 1.0)
    assert torch.equal(rng.get_state(), before)


def test_tilts_in_batches_are_those_of_the_whole():
    _, prior, _ = quadratic_prior()
    eps = torch.randn(25, 5, generator=make_rng("eps"))
    torch.testing.assert_close(tilts(prior, eps, batch_size=10), prior.tilt(eps))


def test_resampled_draws_have_the_moments_of_the_tilted_density():
    """Few of a large pool, so that they are nearly independent: 5 standard errors, 10 % more for repeats."""
    _, prior, exact = quadratic_prior()
    eps, fraction = resample(prior, 5, 4000, 200_000, make_rng("resample"))
    assert worst_moment_error(eps, exact.mean, exact.cov) < 1.1 * SIGMAS
    assert 0.05 < fraction < 1
    assert worst_moment_error(eps, torch.zeros(5), torch.eye(5)) > 2 * SIGMAS  # the pool itself would not do


def test_resampling_is_systematic():
    """Each draw of the pool appears ⌊n w⌋ or ⌈n w⌉ times."""
    prior = TiltPrior(lambda x: 2 * x[:, 0])
    eps, fraction = resample(prior, 1, 500, 300, make_rng("systematic"))
    pool = torch.randn(300, 1, generator=make_rng("systematic"))
    expected = 500 * torch.softmax(2 * pool[:, 0].double(), 0)
    times = (eps == pool.T).sum(0)
    assert times.sum() == 500
    assert ((times - expected).abs() < 1).all()
    assert fraction == pytest.approx(effective_fraction(2 * pool[:, 0]))


def test_resampled_draws_come_in_random_order():
    eps, _ = resample(TiltPrior(lambda x: torch.zeros(len(x))), 1, 400, 400, make_rng("order"))
    pool = torch.randn(400, 1, generator=make_rng("order"))
    assert torch.equal(eps.sort(0).values, pool.sort(0).values)
    assert not torch.equal(eps, pool)


def test_resampling_sampler_reports_its_effective_sample_size():
    _, prior, _ = quadratic_prior()
    sampler = build("sampler", spec("sampler", name="resampling", pool=2000))
    draws = sampler.draw(prior, 5, 300, make_rng("pool"), lambda *_: None)
    _, fraction = resample(prior, 5, 300, 2000, make_rng("pool"))
    assert draws.eps.shape == (300, 5)
    assert draws.diagnostics == {"effective_sample_size": fraction * 2000, "pool": 2000}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_resampling_does_not_hide_a_tilt_that_is_not_finite(bad):
    prior = TiltPrior(lambda x: torch.where(x[:, 0] > 1, bad, 0.0))
    with pytest.raises(Exception, match="finite"):
        resample(prior, 1, 100, 1000, make_rng("bad"))
