"""Preconditioned long chains on posteriors that are known exactly, and R-hat of chains."""

import math

import torch
from linear_gaussian import exact_posterior, linear_model
from oracles import SIGMAS

from jebm.runtime.random import make_rng
from jebm.sampling.langevin import Langevin
from jebm.sampling.long_chains import fit_affine_map, pool_chains, run_long_chains
from jebm.sampling.posterior import posterior_target

IMAGES = torch.tensor([[[[0.9, -1.2, 0.4]]], [[[-2.0, 0.3, 1.0]]]])


def chains(steps=200, count=100):
    """Two images; the posterior is narrow, so that a plain step of 0.9 would not do. The first map comes from plain
    chains that started at N(0, I)."""
    hierarchy, prior = linear_model(sigma=0.15)
    prior.requires_grad_(False)
    hierarchy.requires_grad_(False)
    target = posterior_target(hierarchy, prior, IMAGES.repeat_interleave(count, 0))
    kernel, rng = Langevin(step_size=0.08), make_rng("history")
    state, path = kernel.evaluate(target, torch.randn(2 * count, hierarchy.dimensions, generator=rng)), []
    for _ in range(120):
        state, _ = kernel.step(target, state, rng)
        path.append(state.x.reshape(2, count, -1))
    history = torch.stack(path[60:])
    draws = run_long_chains(target, history, [60, 60], steps, 0.9, make_rng("reference chains"))
    return prior, target, draws


def test_moments_are_those_of_the_exact_posterior():
    """By chains: the mean over steps of ε and of its products, 100 independent values each, 5 standard errors."""
    prior, _, draws = chains()
    mean, cov = exact_posterior(prior, IMAGES)
    eps = draws.eps.double()
    centred = eps - mean[None, :, None]
    products = centred.unsqueeze(-1) * centred.unsqueeze(-2)
    for found, expected in ((centred, torch.zeros(2, 3).double()), (products, cov.expand(2, 3, 3))):
        by_chain = found.mean(0)
        error = by_chain.std(1) / math.sqrt(by_chain.shape[1])
        assert ((by_chain.mean(1) - expected) / error).abs().max() < SIGMAS
    assert cov.diagonal().max() / torch.linalg.eigvalsh(cov).min() > 5  # narrow in one direction
    assert 0.5 < draws.acceptance < 0.99


def test_log_prob_of_the_draws_is_the_targets():
    _, target, draws = chains(steps=4, count=6)
    flat = target.log_prob(draws.eps[-1].flatten(0, 1))
    torch.testing.assert_close(draws.log_prob[-1].flatten(), flat, rtol=1e-4, atol=1e-4)


def test_moment_map_gives_the_moments_back():
    rng = make_rng("moments")
    eps = torch.randn(3, 5000, 4, generator=rng) @ torch.randn(4, 4, generator=rng) + 2
    affine = fit_affine_map(eps, floor=0.0)
    expected = torch.stack([torch.cov(part.T, correction=0) for part in eps])
    torch.testing.assert_close(affine.factor @ affine.factor.mT, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(affine.mean, eps.mean(1))
    u = torch.randn(3, 4, generator=rng)
    torch.testing.assert_close(affine.inverse(affine.forward(u)), u, rtol=1e-4, atol=1e-4)


def test_pooled_chains_of_different_images_stay_separate():
    eps = torch.arange(2 * 3 * 2).reshape(2, 3, 2, 1)
    assert pool_chains(eps)[1].flatten().tolist() == [2, 3, 8, 9]
