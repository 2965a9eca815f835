"""Defensive proposals: their density, their draws, and the importance weights over them."""

import math

import pytest
import torch
from bimodal import Identity, bimodal_prior, exact_log_z
from oracles import SIGMAS, TiltPrior, grid, worst_moment_error

from jebm.models.priors.mixture import MixturePrior
from jebm.runtime.random import make_rng
from jebm.sampling.partition import (
    LogPartition,
    effective_fraction,
    estimate_log_partition,
    estimates_agree,
    proposal_weights,
    resample,
)
from jebm.sampling.proposal import Proposal


def test_the_density_of_a_defensive_proposal_is_normalised_and_that_of_its_draws():
    prior, quadrature = bimodal_prior(), grid(8, 401)
    proposal = Proposal(prior, 2, share=0.3)
    log_q = proposal.log_ratio(quadrature.points) - 0.5 * quadrature.points.square().sum(1) - math.log(2 * math.pi)
    assert quadrature.log_integral(log_q) == pytest.approx(0, abs=1e-5)
    mean = quadrature.mean(log_q, quadrature.points)
    centred = quadrature.points - mean
    cov = quadrature.mean(log_q, centred.unsqueeze(2) * centred.unsqueeze(1))
    assert worst_moment_error(proposal.sample(40_000, make_rng("defensive")), mean, cov) < SIGMAS


def test_draws_of_a_defensive_proposal_are_independent():
    """Chains take successive draws as their candidates, so they must not be ordered by component."""
    draws = Proposal(bimodal_prior(), 2, share=0.5).sample(20_000, make_rng("order"))[:, 0]
    centred = draws - draws.mean()
    correlation = (centred[1:] * centred[:-1]).mean() / centred.square().mean()
    assert abs(correlation) < SIGMAS / math.sqrt(20_000)


def test_weights_over_the_proposal_are_bounded_by_those_over_the_normal_distribution():
    prior, share = bimodal_prior(), 0.2
    eps = 3 * torch.randn(5000, 2, generator=make_rng("anywhere"))
    over_normal = proposal_weights(prior, Proposal(prior, 2, share=1.0), eps)
    assert (proposal_weights(prior, Proposal(prior, 2, share), eps) <= over_normal - math.log(share) + 1e-5).all()


def test_log_z_from_the_defensive_proposal_agrees_with_quadrature_and_has_a_smaller_error():
    prior = bimodal_prior(width=0.2)
    exact = exact_log_z(prior)
    plain = estimate_log_partition(prior, 2, 20_000, make_rng("plain"), share=1.0)
    defensive = estimate_log_partition(prior, 2, 20_000, make_rng("defensive"))
    for found in (plain, defensive):
        assert abs(found.value - exact) < SIGMAS * found.standard_error
    assert defensive.standard_error < 0.7 * plain.standard_error


def test_resampling_from_the_proposal_finds_the_weights_of_the_modes():
    prior, quadrature = bimodal_prior(), grid(6, 401)
    with torch.no_grad():
        density = prior.log_prob(quadrature.points)
    exact = float(quadrature.mean(density, (quadrature.points[:, 0] > 0).double()))
    draws, fraction = resample(prior, 2, 4000, 100_000, make_rng("modes"))
    error = math.sqrt(exact * (1 - exact) / min(4000, fraction * 100_000))
    assert abs(float((draws[:, 0] > 0).double().mean()) - exact) < SIGMAS * error


def test_a_prior_without_a_proposal_is_sampled_from_the_normal_distribution():
    prior = TiltPrior(lambda x: -x.square().sum(1))
    proposal = Proposal(prior, 3)
    assert torch.equal(proposal.sample(10, make_rng("n")), torch.randn(10, 3, generator=make_rng("n")))
    assert torch.equal(proposal.log_ratio(torch.ones(4, 3)), torch.zeros(4))


def test_a_mixture_is_its_own_proposal_and_its_draws_have_its_density():
    mixture, quadrature = MixturePrior(Identity(), components=[2]), grid(8, 401)
    factors = torch.tensor([[[0.5, 0.0], [0.3, 0.8]], [[1.0, 0.0], [-0.4, 0.3]]])
    mixture.set(torch.log(torch.tensor([0.3, 0.7])), torch.tensor([[1.0, 0.0], [-1.0, 0.5]]), factors)
    density = mixture.log_prob(quadrature.points)
    mean = quadrature.mean(density, quadrature.points)
    centred = quadrature.points - mean
    cov = quadrature.mean(density, centred.unsqueeze(2) * centred.unsqueeze(1))
    assert worst_moment_error(mixture.sample(40_000, make_rng("mixture")), mean, cov) < SIGMAS
    eps = mixture.sample(1000, make_rng("own"))
    assert effective_fraction(proposal_weights(mixture, Proposal(mixture, 2), eps)) > 0.8


@pytest.mark.parametrize(
    ("others", "agree"),
    [
        ([(0.1, 0.04), (-0.05, 0.04)], True),
        ([(0.3, 0.04), (0.0, 0.04)], False),  # 0.3 nats apart with errors of 0.04 and 0.01
        ([(0.04, 0.0), (0.0, 0.0)], True),  # within 0.05 nats
        ([(0.1, 0.2), (0.0, 0.04)], False),  # an error of 0.2 nats is too large to tell
        ([(math.nan, 0.01), (0.0, 0.01)], False),
    ],
)
def test_estimates_agree_within_their_errors(others, agree):
    estimates = [LogPartition(0.0, 0.01, 0.5), *(LogPartition(value, error, 0.5) for value, error in others)]
    assert estimates_agree(estimates) is agree
