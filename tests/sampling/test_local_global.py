"""The local-global kernel: exact invariance, and moves between modes that local steps do not cross."""

import math

import pytest
import torch
from bimodal import bimodal_prior
from oracles import SIGMAS, grid, worst_moment_error

from jebm.errors import SettingError
from jebm.runtime.random import make_rng
from jebm.sampling.closed_form.gradients import prior_target
from jebm.sampling.diagnostics import r_hat
from jebm.sampling.local_global import LocalGlobal
from jebm.sampling.partition import resample
from jebm.sampling.pcnl import CrankNicolsonLangevin
from jebm.sampling.run import run_chain
from jebm.sampling.target import Target


def moments(prior):
    """Mean and covariance of the prior by quadrature."""
    quadrature = grid(6, 401)
    with torch.no_grad():
        density = prior.log_prob(quadrature.points)
    mean = quadrature.mean(density, quadrature.points)
    centred = quadrature.points - mean
    return mean, quadrature.mean(density, centred.unsqueeze(2) * centred.unsqueeze(1))


def draw_exactly(prior, count, rng):
    """Draws resampled from so large a pool that they are nearly independent."""
    return resample(prior, 2, count, 20 * count, rng)[0]


@pytest.mark.parametrize(("candidates", "local_steps"), [(1, 0), (8, 0), (8, 2)])
def test_the_kernel_leaves_the_density_invariant(candidates, local_steps):
    """20,000 chains that start from the density have its moments after 10 steps: 5 standard errors."""
    prior, rng = bimodal_prior(), make_rng("invariant", candidates, local_steps)
    kernel = LocalGlobal(candidates=candidates, local_steps=local_steps)
    start = draw_exactly(prior, 20_000, rng)
    ends = run_chain(kernel, prior_target(prior, "autograd"), start, 10, rng).x
    assert worst_moment_error(ends, *moments(prior)) < SIGMAS


def test_chains_in_one_mode_reach_the_density_that_local_steps_do_not():
    prior, rng = bimodal_prior(width=0.25), make_rng("one mode")
    start = torch.tensor([-2.0, 0.0]) + 0.2 * torch.randn(4000, 2, generator=rng)
    target = prior_target(prior, "autograd")
    ends = run_chain(LocalGlobal(candidates=8, local_steps=1), target, start, 60, rng).x
    assert worst_moment_error(ends, *moments(prior)) < SIGMAS
    stuck = run_chain(CrankNicolsonLangevin(step_size=0.35), target, start, 180, rng).x
    assert float((stuck[:, 0] > 0).float().mean()) < 0.1


def test_r_hat_shows_the_difference():
    prior, rng = bimodal_prior(width=0.25), make_rng("r-hat")
    start = torch.randn(32, 2, generator=rng)
    found = {}
    for kernel in (LocalGlobal(), CrankNicolsonLangevin(step_size=0.35)):
        states = []
        run_chain(
            kernel, prior_target(prior, "autograd"), start, 200, rng, lambda step, state, to=states: to.append(state.x)
        )
        found[type(kernel)] = float(r_hat(torch.stack(states)[100:]).max())
    assert found[LocalGlobal] < 1.05 < 1.2 < found[CrankNicolsonLangevin]


def test_candidates_of_infinite_or_undefined_density_are_never_chosen():
    prior = bimodal_prior()
    plain = prior.tilt

    def tilt(eps):
        values = torch.where(eps[:, 0] > 0, plain(eps), torch.full((len(eps),), math.nan))
        return torch.where(eps[:, 1] > 1, torch.full_like(values, math.inf), values)

    start = torch.tensor([2.0, 0.0]) + 0.1 * torch.randn(500, 2, generator=make_rng("start"))
    kernel = LocalGlobal(candidates=8, local_steps=0)
    ends = run_chain(kernel, Target(tilt, prior=prior), start, 20, make_rng("bad")).x
    assert (ends[:, 0] > 0).all()
    assert (ends[:, 1] <= 1).all()
    assert not torch.equal(ends, start)


def test_a_target_without_a_prior_is_refused():
    with pytest.raises(SettingError, match="'local-global' samples only priors"):
        run_chain(LocalGlobal(), Target(lambda x: x.sum(1)), torch.zeros(3, 2), 1, make_rng("none"))
