"""The flow prior: its density against quadrature, what it learns of known targets, and energies that tilt it."""

import os
import signal

import pytest
import torch
from bimodal import Bumps
from latent_targets import (
    FACTOR,
    MEAN,
    divergence,
    fitted,
    gaussian_log_prob,
    ladder,
    share_of_first_mode,
    two_modes_log_prob,
)
from oracles import grid, spec, worst_moment_error

from jebm.errors import InterruptedRunError
from jebm.models.priors.base import build_prior
from jebm.models.priors.flow import FlowPrior
from jebm.runtime.random import make_rng
from jebm.sampling.local_global import LocalGlobal
from jebm.sampling.partition import estimate_log_partition, resample
from jebm.sampling.run import run_chain
from jebm.sampling.target import Target
from jebm.training import ebm, flow

SMALL = {"name": "flow", "transforms": 2, "hidden": 32, "depth": 1, "batch_size": 250, "learning_rate": 1e-2}
IMPORTANCE = {"name": "importance", "pool": 200}


def random_flow():
    prior = FlowPrior(ladder("gaussian"), hidden=16).requires_grad_(False)
    rng = make_rng("random flow")
    for parameter in prior.parameters():
        parameter.normal_(0, 0.3, generator=rng)
    return prior


def test_flow_starts_as_the_gaussian_prior_but_not_stuck_there():
    prior = FlowPrior(ladder("gaussian"))
    eps = torch.randn(20, 2, generator=make_rng("eps"))
    for start in (lambda: None, lambda: prior.initialise(make_rng("start"))):
        start()
        torch.testing.assert_close(prior.tilt(eps), torch.zeros(20), rtol=0, atol=1e-5)
    prior.tilt(eps).sum().backward()
    assert sum(float(p.grad.abs().sum()) for p in prior.parameters() if p.grad is not None) > 0


def test_density_of_a_flow_integrates_to_one_and_its_draws_have_its_moments():
    prior, quadrature = random_flow(), grid(8, 601)
    log_p = prior.log_prob(quadrature.points)
    assert quadrature.log_integral(log_p) == pytest.approx(0, abs=2e-3)
    mean = quadrature.mean(log_p, quadrature.points)
    centred = quadrature.points.double() - mean
    cov = quadrature.mean(log_p, centred.unsqueeze(2) * centred.unsqueeze(1))
    assert (cov - torch.eye(2)).norm() > 0.2  # it is not the Gaussian
    assert worst_moment_error(prior.sample(20_000, make_rng("draws")), mean, cov) < 5


def test_density_is_that_of_the_change_of_variables():
    prior = random_flow()
    for row in torch.randn(5, 2, generator=make_rng("eps")):
        jacobian = torch.autograd.functional.jacobian(lambda e: prior.flow()(e[None])[0], row)
        noise = prior.flow()(row[None])
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum()
        torch.testing.assert_close(prior.log_prob(row[None])[0], normal + torch.linalg.slogdet(jacobian).logabsdet)


def test_flow_is_restored_from_its_parameters_alone():
    prior, fresh = random_flow(), FlowPrior(ladder("gaussian"), hidden=16)
    assert set(prior.state_dict()) == {name for name, _ in prior.named_parameters()}
    fresh.load_state_dict(prior.state_dict())
    eps = torch.randn(4, 2, generator=make_rng("eps"))
    assert torch.equal(fresh.log_prob(eps), prior.log_prob(eps))


def test_flow_learns_a_gaussian(tmp_path):
    """The gain on the validation split is E_q[log p − log N(0, I)], that is KL(q ‖ N(0, I)) less what is left of it."""
    prior = build_prior(spec("prior", **SMALL, steps=200), ladder("gaussian"))
    known = divergence(gaussian_log_prob, prior)
    mean, cov = MEAN.double(), (FACTOR @ FACTOR.T).double()
    exact = 0.5 * (mean @ mean + cov.trace() - 2 - torch.logdet(cov))
    assert known == pytest.approx(float(exact), abs=1e-3)
    result = fitted(flow.fit, prior, tmp_path)
    assert divergence(gaussian_log_prob, prior) < 0.03 < 0.1 * known
    assert result.facts["validation_gain"] == pytest.approx(known, abs=0.1)


def test_flow_learns_two_separate_modes_and_their_weights(tmp_path):
    prior = build_prior(spec("prior", **SMALL, steps=200), ladder("two modes"))
    known = divergence(two_modes_log_prob, prior)
    fitted(flow.fit, prior, tmp_path)
    assert divergence(two_modes_log_prob, prior) < 0.08 < 0.1 * known
    assert share_of_first_mode(prior.sample(4000, make_rng("draws"))) == pytest.approx(0.7, abs=0.05)


def flow_ebm(tmp_path, part="base", **values):
    block = {"name": "ebm", "energy": {"name": "layerwise", "hidden": 8, "depth": 1}, part: {**SMALL, "steps": 20}}
    prior = build_prior(spec("prior", **block), ladder("gaussian"))
    result = fitted(ebm.fit, prior, tmp_path, **{"estimator": IMPORTANCE} | values)
    return prior, result


@pytest.mark.parametrize("part", ["base", "proposal"])
def test_energy_on_a_flow_is_trained_while_the_flow_stays(part, tmp_path):
    prior, result = flow_ebm(tmp_path, part)
    inner = prior.base if part == "base" else prior.own_proposal
    assert prior.proposal is inner
    assert result.facts[f"{part}_steps"] == 20
    again, _ = flow_ebm(tmp_path / "longer", part, steps=5)
    other = again.base if part == "base" else again.own_proposal
    assert all(torch.equal(a, b) for a, b in zip(inner.parameters(), other.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(prior.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("stop_at", [7, 25])
def test_interrupted_fit_of_an_energy_on_a_flow_goes_on_to_the_same_bits(stop_at, tmp_path):
    """Within the training of the flow (20 steps), and after it."""

    def run(folder, stop_at=None):
        prior = build_prior(
            spec(
                "prior",
                name="ebm",
                energy={"name": "layerwise", "hidden": 8, "depth": 1},
                base={**SMALL, "steps": 20},
            ),
            ladder("gaussian"),
        )
        hierarchy, calls = prior.hierarchy, iter(range(10**6))
        draw = hierarchy.draw

        def counted(count, rng):
            if count in (200, 250) and next(calls) == stop_at:  # a batch of training
                os.kill(os.getpid(), signal.SIGTERM)
            return draw(count, rng)

        hierarchy.draw = counted
        fitted(ebm.fit, prior, folder, estimator=IMPORTANCE)
        return torch.cat([p.flatten() for p in prior.parameters()])

    whole = run(tmp_path / "a")
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "b", stop_at)
    assert torch.equal(run(tmp_path / "b"), whole)


def tilted_flow(part):
    """An energy with two modes on a flow, or with the flow as its proposal."""
    prior = build_prior(
        spec("prior", name="ebm", energy={"name": "layerwise"}, **{part: {**SMALL, "hidden": 16}}), ladder("gaussian")
    )
    prior.energy = Bumps(weights=(0.3, -0.3))
    rng = make_rng("tilted flow")
    for parameter in (prior.base if part == "base" else prior.own_proposal).parameters():
        parameter.data.normal_(0, 0.4, generator=rng)
    return prior.requires_grad_(False)


@pytest.mark.parametrize("part", ["base", "proposal"])
def test_log_z_and_draws_of_an_energy_on_a_flow_agree_with_quadrature(part):
    prior, quadrature = tilted_flow(part), grid(8, 601)
    log_p = prior.log_prob(quadrature.points)
    estimate = estimate_log_partition(prior, 2, 40_000, make_rng("log z"))
    assert estimate.value == pytest.approx(quadrature.log_integral(log_p), abs=5 * estimate.standard_error + 2e-3)
    first = (quadrature.points[:, 0] > 0).double()
    share = float(quadrature.mean(log_p, first))
    assert 0.02 < share < 0.98
    draws, _ = resample(prior, 2, 4000, 40_000, make_rng("resample"))
    assert float((draws[:, 0] > 0).float().mean()) == pytest.approx(share, abs=0.05)


def test_chains_among_draws_of_a_flow_leave_the_density_invariant():
    """Started from exact draws, up to resampling, the share of each mode stays what quadrature says."""
    prior, quadrature = tilted_flow("proposal"), grid(8, 601)
    share = float(quadrature.mean(prior.log_prob(quadrature.points), (quadrature.points[:, 0] > 0).double()))
    start, _ = resample(prior, 2, 2000, 40_000, make_rng("start"))
    end = run_chain(LocalGlobal(), Target(prior.tilt, prior=prior), start, 5, make_rng("chain")).x
    error = (share * (1 - share) / 2000) ** 0.5
    assert float((end[:, 0] > 0).float().mean()) == pytest.approx(share, abs=5 * error)
