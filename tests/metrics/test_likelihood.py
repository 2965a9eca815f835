"""Importance weights and bounds on log p(x) against the exact evidence of linear-Gaussian models."""

import math

import pytest
import torch
from oracles import SIGMAS, LinearHierarchy, joint_prior, quadratic_prior

from jebm.metrics.likelihood import bits_per_dimension, importance_weighted, log_weights
from jebm.models.priors.gaussian import GaussianPrior
from jebm.runtime.random import make_rng
from jebm.sampling.partition import estimate_log_partition

X = torch.randn(6, 1, 1, 4, generator=make_rng("likelihood x"))


def many(hierarchy, prior, draws, *name):
    """The log weights of X, (6, draws): in few large batches, each image many times."""
    copies = 250
    weights = log_weights(hierarchy, prior, X.repeat_interleave(copies, 0), draws // copies, make_rng(*name))
    return weights.gaussian.reshape(6, -1), weights.tilt.reshape(6, -1)


@pytest.mark.parametrize("dims", [(3,), (3, 2), (2, 2, 3)])
def test_exact_posterior_gives_constant_weights_equal_to_the_evidence(dims):
    hierarchy = LinearHierarchy(dims)
    weights = log_weights(hierarchy, GaussianPrior(hierarchy), X, 5, make_rng("exact"))
    expected = hierarchy.log_evidence(X).unsqueeze(1).expand(-1, 5)
    torch.testing.assert_close(weights.gaussian.double(), expected, rtol=0, atol=1e-4)
    assert torch.equal(weights.tilt, torch.zeros(6, 5))


def test_bound_rises_with_the_draws_towards_the_evidence_and_not_above():
    """A q that is too wide and off centre: 8,000 draws per image, in groups of K; 5 standard errors over the groups."""
    hierarchy = LinearHierarchy((3, 2), widen=1.3, shift=0.3)
    weights, _ = many(hierarchy, GaussianPrior(hierarchy), 8000, "wide")
    evidence, gaps = hierarchy.log_evidence(X), []
    for group in (1, 8, 400):
        bounds = importance_weighted(weights.reshape(6, -1, group))
        error = bounds.std(1) / math.sqrt(bounds.shape[1])
        assert ((bounds.mean(1) - evidence) < SIGMAS * error).all()
        gaps.append(evidence - bounds.mean(1))
    assert (gaps[0] > 0.3).all()
    assert (gaps[1] < 0.5 * gaps[0]).all()
    assert (gaps[2].abs() < 0.02).all()


def test_bound_under_a_tilt_approaches_the_exact_evidence():
    """log p(x) = log ∫ p(x|ε) exp(tilt) N(ε) dε − log Z; the standard error is that of the weights (delta method)."""
    hierarchy, prior, exact = quadratic_prior(widen=1.2)
    gaussian, tilt = many(hierarchy, prior, 8000, "tilted")
    log_w = (gaussian + tilt - exact.log_z).double()
    evidence = hierarchy.log_evidence(X, exact)
    bound = importance_weighted(log_w)
    error = torch.softmax(log_w, 1).mul(8000).std(1) / math.sqrt(8000)
    assert ((bound - evidence).abs() < SIGMAS * error).all()
    assert (error < 0.05).all()
    assert ((hierarchy.log_evidence(X) - evidence).abs().max() / error.max()) > 5 * SIGMAS  # the tilt matters
    assert (log_w.mean(1) < evidence).all()


def test_estimated_partition_function_will_do_in_the_bound():
    hierarchy, prior, exact = quadratic_prior()
    log_z = estimate_log_partition(prior, 5, 20_000, make_rng("z"))
    gaussian, tilt = many(hierarchy, prior, 8000, "tilted")
    log_w = (gaussian + tilt - log_z.value).double()
    error = torch.softmax(log_w, 1).mul(8000).std(1) / math.sqrt(8000) + log_z.standard_error
    assert ((importance_weighted(log_w) - hierarchy.log_evidence(X, exact)).abs() < SIGMAS * error).all()


def test_importance_weighted_by_hand_and_without_overflow():
    assert importance_weighted(torch.tensor([[0.0, math.log(3.0)]])).item() == pytest.approx(math.log(2))
    assert importance_weighted(torch.tensor([[900.0, 900.0]])).item() == pytest.approx(900)
    assert importance_weighted(torch.tensor([[-7.5]])).item() == -7.5


def test_bits_of_a_uniform_density_are_the_logarithm_of_the_number_of_cells():
    """Uniform on [−1, 1]^D: log p = −D log 2; 16 cells of width 1/8 each take 4 bits per dimension."""
    assert bits_per_dimension(-10 * math.log(2), 10, 1 / 8) == pytest.approx(4)


def test_tilt_is_taken_at_the_drawn_latents():
    hierarchy = LinearHierarchy((3, 2))
    prior = joint_prior(hierarchy, hidden=4, depth=1)
    rng = make_rng("energy")
    for parameter in prior.parameters():
        parameter.normal_(generator=rng)
    weights = log_weights(hierarchy, prior, X, 1, make_rng("at"))
    posterior = hierarchy.infer(X, make_rng("at"))
    torch.testing.assert_close(weights.tilt[:, 0], prior.energy(posterior.top))


def test_progress_counts_the_draws():
    hierarchy, seen = LinearHierarchy(), []
    log_weights(hierarchy, GaussianPrior(hierarchy), X, 3, make_rng(0), progress=lambda *at: seen.append(at[1:]))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_images_beyond_what_fits_at_once_are_weighed_in_parts(monkeypatch):
    """Exact weights do not depend on the draws, so that parts must give what the whole gives, in the same order."""
    hierarchy = LinearHierarchy()
    x = torch.randn(7, 1, 1, 4, generator=make_rng("parts"))
    whole = log_weights(hierarchy, GaussianPrior(hierarchy), x, 2, make_rng("parts draws"))
    monkeypatch.setattr(hierarchy, "max_batch_size", lambda: 3)
    parts = log_weights(hierarchy, GaussianPrior(hierarchy), x, 2, make_rng("parts draws"), redraw=True)
    torch.testing.assert_close(parts.gaussian, whole.gaussian, rtol=0, atol=1e-4)
    assert whole.gaussian.std() > 0.1
    assert parts.redrawn.shape == (1, 7, 2)
    assert whole.redrawn.shape == (0, 7, 2)
