"""Estimators of the gradient of log Z against quadrature, on a prior with two separate modes of unequal weight."""

import math

import pytest
import torch
from bimodal import bimodal_prior, exact_gradient, exact_log_z
from oracles import SIGMAS, spec

from jebm.config.components import build
from jebm.runtime.random import make_rng
from jebm.sampling.partition import log_mean_weight

POSITIVE = torch.zeros(256, 2)
PCNL = {"name": "pcnl", "step_size": 0.35}


def estimator(prior, **block):
    return build("estimator", spec("estimator", **block), prior)


def gradients(found, prior, steps, rng):
    """The gradient with respect to the weights of the bumps at each of several steps, (steps, 2), float64."""
    rows = []
    for _ in range(steps):
        estimate = found(POSITIVE, rng)
        rows.append(torch.autograd.grad(estimate.mean, prior.energy.weights)[0].double())
    return torch.stack(rows)


def error_of_mean(rows):
    """The standard error of the mean of a stationary series by batch means, (2,)."""
    batches = torch.stack([batch.mean(0) for batch in rows.split(len(rows) // 20)])
    return batches.std(0) / math.sqrt(len(batches))


@pytest.mark.parametrize(("share", "draws"), [(0.2, None), (1.0, None), (0.2, 100)])
def test_importance_weights_give_the_gradient_of_log_z(share, draws):
    prior = bimodal_prior()
    found = estimator(prior, name="importance", pool=2000, share=share, gradient_draws=draws)
    rows = gradients(found, prior, 200, make_rng("importance", share))
    exact = exact_gradient(prior)
    # The bias of a self-normalised estimate is of the order of 1 / effective samples, here above 100.
    assert ((rows.mean(0) - exact).abs() < SIGMAS * error_of_mean(rows) + 0.005).all()
    assert (rows.mean(0) - 0.5).abs().min() > 0.2  # equal weights of the modes would show


def test_a_defensive_proposal_has_more_effective_samples_than_the_normal_distribution():
    rows = []
    for share in (0.2, 1.0):
        found = estimator(bimodal_prior(), name="importance", pool=2000, share=share)
        rng = make_rng("effective")
        for _ in range(100):
            estimate = found(POSITIVE, rng)
        rows.append(float(estimate.scalars["effective_samples"]))
    assert rows[0] > 2 * rows[1]


def test_importance_bounds_the_weights_of_the_defensive_proposal():
    """exp(f) N / q is at most exp(f) / share."""
    prior = bimodal_prior()
    found = estimator(prior, name="importance", pool=5000, share=0.2)
    estimate = found(POSITIVE, make_rng("bounded"))
    log_z = exact_log_z(prior)
    ratio = estimate.weights.detach().log() + math.log(5000) + log_z - estimate.f.detach()
    assert float(ratio.max()) < math.log(1 / 0.2) + 0.1


def test_persistent_walkers_miss_the_weights_of_modes_that_local_global_walkers_find():
    prior = bimodal_prior(width=0.25)
    exact = exact_gradient(prior)
    local = estimator(prior, name="persistent", kernel=PCNL, steps=2, walkers=500)
    rng = make_rng("persistent")
    stuck = gradients(local, prior, 300, rng)[100:].mean(0)
    assert (stuck - exact).abs().max() > 0.15  # half of the walkers stay in the mode where they began
    kernel = {"name": "local-global", "candidates": 8, "local_steps": 1}
    both = gradients(estimator(prior, name="persistent", kernel=kernel, walkers=500), prior, 300, rng)[100:]
    assert ((both.mean(0) - exact).abs() < SIGMAS * error_of_mean(both)).all()


def test_walkers_that_restart_at_posterior_draws_are_biased_towards_them():
    prior = bimodal_prior(width=0.25)
    kernel = {"name": "local-global", "candidates": 8, "local_steps": 1}
    found = estimator(prior, name="persistent", kernel=kernel, walkers=500, restart=0.5)
    data = torch.tensor([-2.0, 0.0]) + 0.2 * torch.randn(256, 2, generator=make_rng("data"))
    found(data, make_rng("restart"))
    share = float((found.walkers[:, 0] < 0).float().mean())
    assert share > float(exact_gradient(prior)[1]) + 0.1


def test_short_runs_are_biased_where_chains_do_not_mix():
    prior = bimodal_prior(width=0.25)
    found = estimator(prior, name="short-run", kernel=PCNL, steps=20)
    rows = gradients(found, prior, 50, make_rng("short"))
    assert (rows.mean(0) - exact_gradient(prior)).abs().max() > 0.15


def test_jarzynski_weights_follow_a_changing_density():
    """f grows from 0 in 60 steps that do not depend on the walkers: log Z and its gradient are right, although the
    walkers never change the mode."""
    values, slopes = [], []
    for repeat in range(20):
        prior = bimodal_prior(width=0.25)
        found = estimator(prior, name="jarzynski", kernel=PCNL, steps=2, walkers=400, resample_below=0.3)
        rng = make_rng("jarzynski", repeat)
        for step in range(61):
            prior.energy.strength = step / 60
            estimate = found(POSITIVE, rng)
        values.append(found.log_z)
        slopes.append(torch.autograd.grad(estimate.mean, prior.energy.weights)[0].double())
    values, slopes = torch.tensor(values).double(), torch.stack(slopes)
    assert abs(values.exp().log().mean() - exact_log_z(prior)) < SIGMAS * values.std() / math.sqrt(20) + 0.02
    error = slopes.std(0) / math.sqrt(20)
    assert ((slopes.mean(0) - exact_gradient(prior)).abs() < SIGMAS * error + 0.005).all()


def test_the_log_z_of_walkers_that_drive_the_gradient_is_wrong_and_that_of_the_others_right():
    """The data are draws of N(0, I), so that f only follows the noise of the few walkers."""
    prior = bimodal_prior()
    rng = make_rng("driven")
    net = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.SiLU(), torch.nn.Linear(32, 1))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(generator=rng).mul_(0.5)
        net[2].weight.zero_(), net[2].bias.zero_()
    prior.energy.forward = lambda top: net(torch.cat(top.z, 1)).squeeze(1)
    found = estimator(prior, name="jarzynski", kernel=PCNL, steps=1, walkers=40, gradients="autograd")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        (found(POSITIVE, rng).mean - net(torch.randn(256, 2, generator=rng)).mean()).backward()
        optimizer.step()
    driving = found.populations[0]
    own, exact = driving.log_z + log_mean_weight(driving.log_w).value, exact_log_z(prior)
    assert own < exact - 0.5
    assert abs(found.log_z - exact) < 0.3 * (exact - own)


@pytest.mark.parametrize(
    "block",
    [
        {"name": "persistent", "kernel": PCNL, "walkers": 30},
        {"name": "jarzynski", "kernel": PCNL, "walkers": 30},
        {"name": "importance", "pool": 50},
        {"name": "short-run", "kernel": PCNL, "steps": 2, "adaptation_steps": 5},
    ],
    ids=lambda block: block["name"],
)
def test_an_estimator_goes_on_from_its_saved_state_bit_by_bit(block):
    prior = bimodal_prior()
    whole, rng = estimator(prior, **block), make_rng("resume")
    for _ in range(4):
        whole(POSITIVE, rng)
    state, random = whole.state_dict(), rng.get_state()
    after = [whole(POSITIVE, rng) for _ in range(3)][-1]
    resumed = estimator(prior, **block)
    resumed.load_state_dict(state)
    rng.set_state(random)
    again = [resumed(POSITIVE, rng) for _ in range(3)][-1]
    assert torch.equal(after.f, again.f)
    assert torch.equal(after.weights, again.weights)
    assert all(torch.equal(after.scalars[name], again.scalars[name]) for name in after.scalars)
