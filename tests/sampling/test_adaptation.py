"""Adapted step sizes: convergence, the end of the adaptation, and the saved state."""

import math

import pytest
import torch
from oracles import TiltPrior, spec
from torch.distributions import Normal

from jebm.config.components import build
from jebm.errors import JebmError
from jebm.runtime.random import make_rng
from jebm.sampling.adaptation import AdaptiveKernel
from jebm.sampling.run import run_chain
from jebm.sampling.target import Target

PCNL = {"name": "pcnl", "step_size": 0.05, "adjusted": True}
MALA = {"name": "langevin", "step_size": 0.05, "adjusted": True}
DIMS = 20


def tilt(x):
    """Makes the target N(0, 1/5)."""
    return -2 * x.square().sum(1)


def adapted(block, target, runs=150, start=None):
    kernel, rng = AdaptiveKernel(spec("kernel", **block), target, runs), make_rng("adapt", start)
    for _ in range(runs):
        x = torch.randn(40, DIMS, generator=rng) / math.sqrt(5)
        kernel.observe(run_chain(kernel.kernel, Target(tilt), x, 3, rng).acceptance)
    return kernel


@pytest.mark.parametrize("block", [PCNL, MALA])
@pytest.mark.parametrize("target", [0.4, 0.6, 0.8])
def test_acceptance_of_the_size_that_comes_out_is_the_target(block, target):
    kernel = adapted(block, target)
    x = torch.randn(4000, DIMS, generator=make_rng("check")) / math.sqrt(5)
    accepted = float(run_chain(kernel.kernel, Target(tilt), x, 5, make_rng("check chain")).acceptance)
    assert accepted == pytest.approx(target, abs=0.03)


def test_size_is_the_same_from_above_and_from_below():
    low, high = (adapted(MALA | {"step_size": s}, 0.6).step_size for s in (0.01, 1.9))
    assert low == pytest.approx(high, rel=0.06)


def test_recursion_by_hand_and_its_end():
    kernel = AdaptiveKernel(spec("kernel", **MALA), 0.5, 2)
    kernel.observe(torch.tensor(0.9))
    first = 0.05 * math.exp(0.4)
    assert kernel.step_size == pytest.approx(first)
    kernel.observe(torch.tensor(0.2))
    second = first * math.exp(-0.3 * 2**-0.6)
    assert kernel.step_size == pytest.approx(second)
    kernel.observe(torch.tensor(0.2))
    assert kernel.step_size == pytest.approx(second)


def test_proposals_that_are_all_accepted_stop_at_the_largest_size_of_the_kernel():
    """With no tilt pcnl accepts everything; beyond s = 1 it has no meaning."""
    kernel = AdaptiveKernel(spec("kernel", **PCNL), 0.6, 200)
    for _ in range(200):
        kernel.observe(torch.tensor(1.0))
    assert kernel.step_size == 0.999
    assert math.isfinite(kernel.kernel.contraction)


def test_state_carries_the_size_and_the_count():
    one, two = (AdaptiveKernel(spec("kernel", **PCNL), 0.6, 5) for _ in range(2))
    values = [0.9, 0.7, 0.1, 0.5, 0.8, 0.2]
    for value in values[:3]:
        one.observe(torch.tensor(value))
    two.load_state_dict(one.state_dict())
    for value in values[3:]:
        one.observe(torch.tensor(value))
        two.observe(torch.tensor(value))
    assert one.step_size == two.step_size
    assert two.kernel.contraction == one.kernel.contraction


def test_sampler_uses_and_reports_the_step_size_of_training():
    prior = TiltPrior(tilt)
    block = {"name": "mcmc", "kernel": MALA, "steps": 5, "chains": 50}
    draw = (prior, DIMS, 50, make_rng("draw"), lambda what, done, total: None)
    sampler = build("sampler", spec("sampler", **block, step_size="adapted"))
    with pytest.raises(JebmError, match=r"draw_samples.sampler.step_size: is 'adapted', but the prior was trained"):
        sampler.draw(*draw)
    prior.adapted_step_size = 0.31
    ours = sampler.draw(*draw)
    same = build("sampler", spec("sampler", **block | {"kernel": MALA | {"step_size": 0.31}}))
    theirs = same.draw(prior, DIMS, 50, make_rng("draw"), lambda what, done, total: None)
    assert torch.equal(ours.eps, theirs.eps)
    assert ours.diagnostics == theirs.diagnostics | {"step_size": 0.31}


def test_mala_settles_where_theory_puts_it():
    """The acceptance of one step on N(0, σ²) from itself in one dimension, by integration over the proposal."""
    kernel = AdaptiveKernel(spec("kernel", **MALA), 0.7, 300)
    rng = make_rng("theory")
    for _ in range(300):
        x = torch.randn(400, 1, generator=rng) / math.sqrt(5)
        kernel.observe(run_chain(kernel.kernel, Target(tilt), x, 1, rng).acceptance)
    s, precision = kernel.step_size, 5.0
    grid = torch.linspace(-4, 4, 1601).double()
    x, y = grid.unsqueeze(1), grid.unsqueeze(0)
    log_p = Normal(0.0, precision**-0.5).log_prob
    move = lambda a, b: Normal(a * (1 - s * s / 2 * precision), s).log_prob(b)  # noqa: E731
    forward = log_p(x) + move(x, y)
    accepted = torch.exp(torch.minimum(forward, log_p(y) + move(y, x))).sum() * (grid[1] - grid[0]) ** 2
    assert float(accepted) == pytest.approx(0.7, abs=0.02)
