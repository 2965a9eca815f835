"""Diagnostics against autoregressive processes, whose autocorrelation is known, and against cases by hand."""

import math

import pytest
import torch
from oracles import SIGMAS

from jebm.runtime.random import make_rng
from jebm.sampling.diagnostics import (
    autocorrelation,
    autocorrelation_time,
    autocovariance,
    effective_sample_size,
    normal_scores,
    plain_r_hat,
    r_hat,
    split_chains,
)


def autoregressive(rho, steps=2000, chains=16, dimensions=4, seed=0):
    """x' = ρ x + √(1 − ρ²) ξ from its stationary N(0, 1): ρ_t = ρ^t, τ = (1 + ρ)/(1 − ρ)."""
    noise = torch.randn(steps, chains, dimensions, generator=make_rng("ar", rho, seed), dtype=torch.float64)
    x, rows = noise[0], [noise[0]]
    for step in noise[1:]:
        x = rho * x + math.sqrt(1 - rho**2) * step
        rows.append(x)
    return torch.stack(rows)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.4])
def test_autocorrelation_time_of_an_autoregressive_process(rho):
    """80 estimates of τ, one a dimension; their mean within 5 standard errors and 3 % of truncation."""
    found = autocorrelation_time(autoregressive(rho, 1000, 8, 80))
    exact = (1 + rho) / (1 - rho)
    assert abs(found.mean() - exact) < SIGMAS * found.std() / math.sqrt(len(found)) + 0.03 * exact


def test_effective_sample_size_is_the_precision_of_a_mean():
    """The variance of the mean of many independent processes is 1/ESS, within the error of a variance of 400."""
    draws = [autoregressive(0.8, 400, 4, 16, seed) for seed in range(25)]
    means = torch.cat([d.mean((0, 1)) for d in draws])
    ess = torch.cat([effective_sample_size(d) for d in draws]).mean()
    assert abs(means.var() * ess - 1) < SIGMAS * math.sqrt(2 / len(means)) + 0.05


def test_autocorrelation_falls_as_the_power_of_its_lag():
    rho = autocorrelation(autoregressive(0.7, 4000, 40, 1))[:6, 0]
    torch.testing.assert_close(rho, 0.7 ** torch.arange(6).double(), rtol=0, atol=0.03)


def test_autocovariance_by_the_fourier_transform_is_that_by_hand():
    draws = autoregressive(0.5, 12, 3, 2)
    centred = draws - draws.mean(0)
    by_hand = torch.stack([(centred[: 12 - t] * centred[t:]).sum(0) / 12 for t in range(12)])
    torch.testing.assert_close(autocovariance(draws), by_hand, rtol=0, atol=1e-12)


def test_antithetic_chains_have_a_bounded_effective_sample_size():
    draws = autoregressive(-0.98, 200, 4, 3)
    total = 200 * 4
    assert (effective_sample_size(draws) > total).all()
    assert (effective_sample_size(draws) <= total * math.log10(total) * (1 + 1e-12)).all()


def test_r_hat_is_one_where_chains_agree():
    assert r_hat(autoregressive(0.3)).max() < 1.01
    assert r_hat(autoregressive(0.3)).min() > 0.99


def test_plain_r_hat_by_hand():
    """Two chains of three draws: W = 1, B/n = 2, √((2/3 · 1 + 2) / 1)."""
    draws = torch.tensor([[0.0, 2.0], [1.0, 3.0], [2.0, 4.0]]).unsqueeze(2)
    assert float(plain_r_hat(draws)) == pytest.approx(math.sqrt(2 / 3 + 2))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda x: x + torch.arange(x.shape[1]).view(1, -1, 1), id="another mean in each chain"),
        pytest.param(lambda x: x * (1 + 3 * (torch.arange(x.shape[1]) % 2)).view(1, -1, 1), id="another spread"),
        pytest.param(lambda x: x + torch.linspace(0, 4, len(x)).view(-1, 1, 1), id="a drift in all of them"),
    ],
)
def test_r_hat_sees_chains_that_disagree(spoil):
    assert r_hat(spoil(autoregressive(0.3))).min() > 1.05


def test_spread_is_seen_by_the_folded_draws_alone():
    draws = split_chains(autoregressive(0.3) * (1 + 3 * (torch.arange(16) % 2)).view(1, -1, 1))
    assert plain_r_hat(normal_scores(draws)).max() < 1.01


def test_r_hat_bears_a_density_without_a_variance():
    draws = torch.tan(math.pi * (torch.rand(1000, 8, 1, generator=make_rng("cauchy"), dtype=torch.float64) - 0.5))
    assert r_hat(draws).max() < 1.02


def test_normal_scores_are_the_quantiles_of_ranks_and_ties_share_theirs():
    draws = torch.tensor([[3.0, -1.0], [3.0, 10.0]]).unsqueeze(2)
    quantile = torch.distributions.Normal(0.0, 1.0).icdf
    expected = quantile((torch.tensor([[2.5, 1.0], [2.5, 4.0]]) - 0.375) / 4.25)
    torch.testing.assert_close(normal_scores(draws).squeeze(2), expected.double(), rtol=0, atol=1e-6)


def test_chains_that_are_stuck_apart_do_not_look_independent():
    stuck = 0.01 * autoregressive(0.0, 400, 8, 1) + torch.arange(8.0).view(1, -1, 1)
    assert effective_sample_size(stuck) < 3 * 8


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="7 steps are too few"):
        r_hat(torch.zeros(7, 2, 1))
