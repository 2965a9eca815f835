"""Running chains: diagnostics, chains that are not finite, chunks and batches, repeatability."""

import pytest
import torch
from oracles import TiltPrior, mild_prior, quadratic_prior, spec

from jebm.config.components import build
from jebm.errors import DivergedError, JebmError
from jebm.models.backbones.base import Hierarchy
from jebm.models.priors.gaussian import GaussianPrior
from jebm.runtime.random import make_rng
from jebm.sampling.langevin import Langevin
from jebm.sampling.pcnl import CrankNicolsonLangevin
from jebm.sampling.run import run_chain
from jebm.sampling.samplers.base import in_batches
from jebm.sampling.target import Target


def quiet(what, done, total):
    """A progress callback that prints nothing."""


def start(count=400, dimensions=2):
    return torch.randn(count, dimensions, generator=make_rng("start"))


def cliff(x):
    """Flat, and not finite beyond 1."""
    return torch.where(x[:, 0] > 1, torch.nan, 0.0) * x[:, 0]


def wall(x):
    """Flat, and infinitely unlikely beyond 1."""
    return torch.where(x[:, 0] > 1, -torch.inf, 0.0) + 0 * x[:, 0]


def spike(x):
    """Flat, and infinitely likely beyond 1: an overflow, not a density."""
    return torch.where(x[:, 0] > 1, torch.inf, 0.0) + 0 * x[:, 0]


def chain(kernel, steps=10, chains=150):
    return build("sampler", spec("sampler", name="mcmc", kernel=kernel, steps=steps, chains=chains))


MALA = {"name": "langevin", "step_size": 0.8, "adjusted": True}
PCNL = {"name": "pcnl", "step_size": 0.8, "adjusted": True}


@pytest.mark.parametrize("function", [cliff, wall, spike])
@pytest.mark.parametrize("kernel", [Langevin(step_size=0.8, adjusted=True), CrankNicolsonLangevin(step_size=0.8)])
def test_adjusted_kernel_rejects_proposals_that_are_not_finite(kernel, function):
    inside = start().clamp(max=0.9)
    result = run_chain(kernel, Target(function), inside, 15, make_rng("reject"))
    assert result.non_finite == 0
    assert (result.x[:, 0] <= 1).all()
    assert 0.3 < result.acceptance < 0.98


def test_unadjusted_chains_that_leave_the_finite_are_counted():
    inside = torch.zeros(400, 2)
    result = run_chain(Langevin(step_size=0.8), Target(cliff), inside, 3, make_rng("count"))
    lost = (~torch.isfinite(result.x).all(1) | (result.x[:, 0] > 1)).sum()
    assert result.non_finite == lost
    assert 20 < result.non_finite < 380


@pytest.mark.parametrize("name", ["langevin", "pcnl"])
def test_sampler_refuses_chains_that_are_not_finite(name):
    sampler = chain({"name": name, "step_size": 0.8, "adjusted": False})
    with pytest.raises(DivergedError, match=r"\d+ of 300 chains are not finite after 10 steps.*step_size"):
        sampler.draw(TiltPrior(cliff), 2, 300, make_rng("diverge"), quiet)


def test_explosion_of_an_unstable_step_is_reported():
    """A step far beyond stability on a stiff quadratic overflows; such states must not be returned as samples."""
    sampler = chain({"name": "langevin", "step_size": 0.9}, steps=60)
    with pytest.raises(DivergedError, match="300 of 300"):
        sampler.draw(TiltPrior(lambda x: -50 * x.square().sum(1)), 2, 300, make_rng("unstable"), quiet)


def test_sampler_draws_the_asked_number_and_reports_how():
    _, prior, _ = quadratic_prior()
    done = []
    draws = chain(MALA, steps=7, chains=150).draw(
        prior, 5, 400, make_rng("draw"), lambda what, at, total: done.append((at, total))
    )
    assert draws.eps.shape == (400, 5)
    assert done == [(150, 400), (300, 400), (400, 400)]
    assert draws.diagnostics["langevin_steps"] == 7
    assert 0 < draws.diagnostics["acceptance"] < 1
    assert not draws.eps.requires_grad


def test_reported_acceptance_is_a_mean_over_all_chains_not_over_groups():
    def uneven(x):  # chains of the second, smaller chunk have another energy
        return (x[:, 0] * (0.0 if len(x) == 300 else 1.2)).square() * -1

    sampler, rng = chain(PCNL, steps=4, chains=300), make_rng("groups")
    accepted = []
    for size in (300, 50):
        x = torch.randn(size, 2, generator=rng)
        accepted.append(float(run_chain(sampler.kernel, Target(uneven), x, 4, rng).acceptance))
    assert 0.1 < accepted[1] < accepted[0] - 0.1
    draws = sampler.draw(TiltPrior(uneven), 2, 350, make_rng("groups"), quiet)
    assert draws.diagnostics["acceptance"] == pytest.approx((300 * accepted[0] + 50 * accepted[1]) / 350, abs=1e-6)


def test_draws_repeat_with_the_rng_and_do_not_change_the_global_one():
    _, prior, _ = quadratic_prior()
    torch.manual_seed(7)
    first = chain(MALA).draw(prior, 5, 200, make_rng("repeat"), quiet).eps
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(3), after)
    assert torch.equal(chain(MALA).draw(prior, 5, 200, make_rng("repeat"), quiet).eps, first)
    assert not torch.equal(chain(MALA).draw(prior, 5, 200, make_rng("another"), quiet).eps, first)


def test_chains_build_no_graph_through_the_weights():
    _, prior = mild_prior()
    prior.requires_grad_(True)
    draws = chain(PCNL).draw(prior, 2, 50, make_rng("graph"), quiet)
    assert not draws.eps.requires_grad
    assert all(p.grad is None and p.requires_grad for p in prior.parameters())


def test_chain_works_under_no_grad():
    _, prior = mild_prior()
    free = chain(PCNL).draw(prior, 2, 50, make_rng("no grad"), quiet).eps
    with torch.no_grad():
        assert torch.equal(chain(PCNL).draw(prior, 2, 50, make_rng("no grad"), quiet).eps, free)


def test_every_step_is_announced_and_no_steps_return_the_start():
    seen, x = [], start()
    run_chain(Langevin(step_size=0.1), Target(cliff), x, 4, make_rng(0), lambda *told: seen.append(told))
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    assert all(state.x.shape == x.shape for _, state in seen)
    assert torch.equal(run_chain(Langevin(step_size=0.1), Target(cliff), x, 0, make_rng(0)).x, x)


def test_unadjusted_acceptance_is_one():
    zero = Target(lambda x: torch.zeros(len(x)))
    assert run_chain(Langevin(step_size=0.1), zero, start(), 3, make_rng(0)).acceptance == 1


def test_ancestral_sampler_draws_exactly_from_a_normalised_prior():
    class Two(Hierarchy):
        latent_shapes, image_shape = ((1,), (1,)), (1, 1, 1)
        top_down = condition = decode = infer = initialise = None

    prior = GaussianPrior(Two())
    draws = build("sampler", spec("sampler", name="ancestral")).draw(prior, 2, 5, make_rng("a"), quiet)
    assert torch.equal(draws.eps, torch.randn(5, 2, generator=make_rng("a")))
    assert draws.diagnostics == {}


def test_ancestral_sampler_refuses_an_energy():
    _, prior = mild_prior()
    with pytest.raises(JebmError, match=r"draw_samples\.sampler.*'mcmc' or 'resampling'"):
        build("sampler", spec("sampler", name="ancestral")).draw(prior, 2, 5, make_rng("a"), quiet)


@pytest.mark.parametrize("sizes", [[4, 4, 2], [1] * 10, [10], [3, 0, 6, 1]])
def test_chunks_become_batches_as_if_all_had_been_split_at_once(sizes):
    rows = torch.arange(20.0).reshape(10, 2)
    found = list(in_batches(iter(rows.split(sizes)), 4))
    assert [len(batch) for batch in found] == [4, 4, 2]
    assert torch.equal(torch.cat(found), rows)


def test_nothing_becomes_no_batch():
    assert list(in_batches(iter([torch.zeros(0, 2)]), 4)) == []


def test_chunks_are_the_draws_in_order_with_the_diagnostics_at_the_end():
    _, prior, _ = quadratic_prior()
    sampler = chain(MALA, chains=150)
    chunks = sampler.chunks(prior, 5, 400, make_rng("chunks"), quiet)
    drawn = list(chunks)
    whole = sampler.draw(prior, 5, 400, make_rng("chunks"), quiet)
    assert [len(chunk) for chunk in drawn] == [150, 150, 100]
    assert torch.equal(torch.cat(drawn), whole.eps)
    assert chunks.diagnostics == whole.diagnostics


def test_ancestral_chunks_are_drawn_from_one_rng():
    prior = GaussianPrior(quadratic_prior()[0])
    sampler, rng = build("sampler", spec("sampler", name="ancestral", batch_size=4)), make_rng("chunks")
    chunks = list(sampler.chunks(prior, 5, 10, make_rng("chunks"), quiet))
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]
    assert torch.equal(torch.cat(chunks), torch.cat([torch.randn(n, 5, generator=rng) for n in (4, 4, 2)]))
