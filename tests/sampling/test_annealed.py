"""Annealed importance sampling against closed forms and quadrature: lower and upper bounds."""

import math
from itertools import pairwise

import pytest
import torch
from oracles import SIGMAS, TiltPrior, grid, mild_prior
from torch.distributions import MultivariateNormal

from jebm.models.priors.mixture import MixturePrior
from jebm.runtime.random import make_rng
from jebm.sampling.annealed import (
    anneal_forward,
    anneal_reverse,
    base_draws,
    inverse_temperatures,
    lower_bound,
    upper_bound,
)
from jebm.sampling.partition import resample
from jebm.sampling.pcnl import CrankNicolsonLangevin

KERNEL = CrankNicolsonLangevin(step_size=0.5, adjusted=True)
DIMENSIONS = 4


def gaussian_tilt():
    """tilt = −½ εᵀ A ε + bᵀ ε: the prior, its exact density and log Z = ½ bᵀ C b − ½ log |I + A|, C = (I + A)⁻¹."""
    rng = make_rng("gaussian tilt")
    root = torch.randn(DIMENSIONS, DIMENSIONS, generator=rng, dtype=torch.float64)
    matrix, vector = root @ root.T / 4, torch.randn(DIMENSIONS, generator=rng, dtype=torch.float64)
    precision = torch.eye(DIMENSIONS, dtype=torch.float64) + matrix
    cov = torch.linalg.inv(precision)
    log_z = float(0.5 * vector @ cov @ vector - 0.5 * torch.logdet(precision))

    def tilt(x):
        return -0.5 * ((x @ matrix.to(x)) * x).sum(1) + x @ vector.to(x)

    return TiltPrior(tilt), MultivariateNormal(cov @ vector, cov), log_z


def normal(count, name):
    return torch.randn(count, DIMENSIONS, generator=make_rng(name))


def exact_draws(density, count, name):
    """Exact draws from the density, with an explicit random number generator."""
    noise = torch.randn(count, DIMENSIONS, generator=make_rng(name), dtype=torch.float64)
    return (density.mean + noise @ density.scale_tril.T).float()


def both(prior, density, steps, chains=400, repeat=0):
    betas, name = inverse_temperatures(steps), f"{steps} {repeat}"
    forward = anneal_forward(prior, normal(chains, f"start {name}"), betas, KERNEL, make_rng("forward", name))
    start = exact_draws(density, chains, f"end {name}")
    return forward, anneal_reverse(prior, start, betas, KERNEL, make_rng("reverse", name))


def test_weights_average_to_the_exact_partition_function_in_both_directions():
    """E[w] = Z forward and 1/Z in reverse, at any number of temperatures: 5 standard errors."""
    prior, density, log_z = gaussian_tilt()
    for steps in (5, 40):
        forward, reverse = both(prior, density, steps, 4000)
        for annealing, exact in ((forward, log_z), (reverse, -log_z)):
            weights = torch.exp(annealing.log_weights - exact)
            assert abs(weights.mean() - 1) < SIGMAS * weights.std() / math.sqrt(len(weights))
    assert abs(log_z) > 0.1  # so that 0 would not do


def test_bounds_hold_on_average_and_tighten_with_the_number_of_temperatures():
    """Of single weights, where Jensen's gap is widest: E[log w] ≤ log Z ≤ −E[log w of the reverse]."""
    prior, density, log_z = gaussian_tilt()
    gaps = []
    for steps in (4, 16, 64):
        forward, reverse = both(prior, density, steps, 2000)
        below, above = forward.log_weights.mean(), -reverse.log_weights.mean()
        errors = [SIGMAS * a.log_weights.std() / math.sqrt(2000) for a in (forward, reverse)]
        assert below < log_z + errors[0]
        assert above > log_z - errors[1]
        gaps.append(float(above - below))
    assert all(finer < 0.7 * coarser for coarser, finer in pairwise(gaps))


def test_estimates_bracket_the_truth_within_their_standard_errors():
    prior, density, log_z = gaussian_tilt()
    forward, reverse = both(prior, density, 100)
    lower, upper = lower_bound(forward), upper_bound(reverse)
    assert lower.value - SIGMAS * lower.standard_error < log_z < upper.value + SIGMAS * upper.standard_error
    assert max(lower.standard_error, upper.standard_error) < 0.05
    assert min(lower.effective_fraction, upper.effective_fraction) > 0.5


def test_stated_standard_error_is_the_spread_of_repeated_estimates():
    prior, density, _ = gaussian_tilt()
    found = [lower_bound(both(prior, density, 8, 100, repeat)[0]) for repeat in range(50)]
    values = torch.tensor([f.value for f in found], dtype=torch.float64)
    stated = torch.tensor([f.standard_error for f in found]).mean()
    assert abs(values.std() / stated - 1) < SIGMAS / math.sqrt(2 * 49)


def test_agrees_with_quadrature_on_a_real_energy():
    _, prior = mild_prior()
    quadrature = grid()
    exact = quadrature.log_integral(prior.log_prob(quadrature.points))
    betas, rng = inverse_temperatures(60), make_rng("mild annealing")
    start = torch.randn(1500, 2, generator=rng)
    lower = lower_bound(anneal_forward(prior, start, betas, KERNEL, rng))
    end, _ = resample(prior, 2, 1500, 60_000, rng)
    upper = upper_bound(anneal_reverse(prior, end, betas, KERNEL, rng))
    assert abs(lower.value - exact) < SIGMAS * lower.standard_error
    # The resampled start is as good as its own estimate of log Z, about 1/√(60,000 · 0.4).
    assert abs(upper.value - exact) < SIGMAS * (upper.standard_error + 0.007)
    assert abs(exact) > 10 * lower.standard_error


def test_annealing_starts_from_the_base_that_the_energy_tilts():
    """A base far from N(0, I): its few temperatures would not do from there, and the energy alone is a mild tilt."""
    hierarchy, prior = mild_prior()
    prior.base = MixturePrior(hierarchy)
    means = torch.tensor([[1.2, -0.8], [-1.0, 0.3], [0.4, 1.3]])
    prior.base.set(torch.tensor([0.5, 0.3, 0.2]).log(), means, 0.15 * torch.eye(2).repeat(3, 1, 1))
    quadrature = grid()
    exact = quadrature.log_integral(prior.log_prob(quadrature.points))
    betas, rng = inverse_temperatures(10), make_rng("annealing from a base")
    lower = lower_bound(anneal_forward(prior, base_draws(prior, 2, 1500, rng), betas, KERNEL, rng))
    end, _ = resample(prior, 2, 1500, 60_000, rng)
    upper = upper_bound(anneal_reverse(prior, end, betas, KERNEL, rng))
    for bound in (lower, upper):
        assert abs(bound.value - exact) < SIGMAS * (bound.standard_error + 0.007)
        assert bound.effective_fraction > 0.5
    assert abs(exact) > 0.2


def test_a_start_that_misses_a_part_of_the_density_makes_the_upper_bound_too_low():
    """The docstring warns of this: a start from N(0, I) instead of the density gives values far below log Z."""
    prior, _, log_z = gaussian_tilt()
    start = normal(2000, "wrong start")
    found = upper_bound(anneal_reverse(prior, start, inverse_temperatures(1), KERNEL, make_rng("wrong")))
    assert found.value < log_z - SIGMAS * found.standard_error


def test_one_temperature_is_plain_importance_sampling():
    prior, _, _ = gaussian_tilt()
    start = normal(50, "plain")
    found = anneal_forward(prior, start, inverse_temperatures(1), KERNEL, make_rng(0))
    torch.testing.assert_close(found.log_weights, prior.tilt(start).double())


def test_temperatures_rise_from_nought_to_one():
    betas = inverse_temperatures(7)
    assert (betas[0], betas[-1], len(betas)) == (0, 1, 8)
    assert (betas.diff() > 0).all()


def test_unadjusted_kernel_is_refused():
    prior, _, _ = gaussian_tilt()
    kernel = CrankNicolsonLangevin(step_size=0.5, adjusted=False)
    with pytest.raises(ValueError, match="adjusted"):
        anneal_forward(prior, normal(5, "refused"), inverse_temperatures(3), kernel, make_rng(0))
