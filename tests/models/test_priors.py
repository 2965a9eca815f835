"""Tilts: the joint prior's density, energies, the mixture."""

import math

import pytest
import torch
from oracles import LinearHierarchy, joint_prior, mild_prior, quadratic_prior, spec, worst_moment_error
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from jebm.models.backbones.base import TopDown, flatten, standard_normal_log_prob
from jebm.models.energies.layerwise import LayerwiseEnergy
from jebm.models.nets import frozen
from jebm.models.priors.aggregate_posterior import AggregatePosterior
from jebm.models.priors.base import build_prior
from jebm.models.priors.ebm import JointPrior
from jebm.models.priors.gaussian import GaussianPrior
from jebm.models.priors.mixture import MixturePrior
from jebm.runtime.random import make_rng


class Shapes:
    """All that an energy asks of a hierarchy."""

    def __init__(self, *shapes):
        self.latent_shapes = self.context_shapes = shapes
        self.layer_dims = [math.prod(shape) for shape in shapes]


def test_joint_prior_is_the_z_density_times_the_jacobian_of_the_transform():
    """log p(ε) = f(z) + log p_β(z) + log |det ∂T/∂ε| at z = T(ε): the definition, by another way than the code's."""
    hierarchy, prior = mild_prior()
    eps = torch.randn(5, 2, generator=make_rng("eps"))
    top = hierarchy.top_down_flat(eps)
    log_det = torch.stack(
        [
            torch.linalg.slogdet(
                torch.autograd.functional.jacobian(lambda e: flatten(hierarchy.top_down_flat(e[None]).z)[0], row)
            ).logabsdet
            for row in eps
        ]
    )
    expected = prior.energy(top) + hierarchy.log_prob(top.z) + log_det
    torch.testing.assert_close(prior.log_prob(eps), expected, rtol=0, atol=1e-5)


def test_tilted_linear_hierarchy_is_the_gaussian_of_the_oracle():
    """Ties the closed form that the sampling tests compare with to the code's own density."""
    _, prior, exact = quadratic_prior()
    eps = torch.randn(20, 5, generator=make_rng("eps"))
    expected = MultivariateNormal(exact.mean, exact.cov).log_prob(eps.double()) + exact.log_z
    torch.testing.assert_close(prior.log_prob(eps).double(), expected, rtol=0, atol=1e-5)
    assert exact.mean.norm() > 0.3
    assert (exact.cov - torch.eye(5)).norm() > 0.3


def test_gaussian_prior_has_no_tilt():
    prior = GaussianPrior(LinearHierarchy())
    eps = torch.randn(3, 5, generator=make_rng("eps"))
    assert torch.equal(prior.tilt(eps), torch.zeros(3))
    assert torch.equal(prior.log_prob(eps), standard_normal_log_prob(eps))


def test_gaussian_prior_draws_standard_normals():
    draws = GaussianPrior(LinearHierarchy()).sample(20_000, make_rng("gaussian prior"))
    assert worst_moment_error(draws, torch.zeros(5), torch.eye(5)) < 5


def stored(count):
    prior = AggregatePosterior(LinearHierarchy())
    prior.set(torch.arange(count).float()[:, None].expand(count, 5).contiguous())
    return prior


def test_stored_draws_come_once_each_before_any_comes_again():
    """Over several calls, as the sets and chunks of a sampler make them."""
    prior, rng = stored(10), make_rng("rows")
    rows = torch.cat([prior.sample(count, rng) for count in (4, 3, 6, 7)])[:, 0].long()
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))
    assert rows[:10].tolist() != list(range(10))
    assert sorted(stored(3).sample(7, rng)[:6, 0].tolist()) == [0, 0, 1, 1, 2, 2]


def test_stored_draws_are_read_with_the_weights():
    prior = AggregatePosterior(LinearHierarchy())
    prior.load_state_dict(stored(4).state_dict())
    assert torch.equal(prior.rows, stored(4).rows)


def test_stored_draws_refuse_to_pass_for_a_density():
    for ask in (stored(2).tilt, stored(2).log_prob):
        with pytest.raises(NotImplementedError, match="no density"):
            ask(torch.zeros(2, 5))


def test_joint_prior_learns_and_saves_its_energy_but_not_the_backbone():
    hierarchy, prior = mild_prior()
    assert {name.split(".")[0] for name in prior.state_dict()} == {"energy"}
    assert not {id(p) for p in hierarchy.parameters()} & {id(p) for p in prior.parameters()}


def test_joint_prior_has_no_exact_sampler():
    _, prior = mild_prior()
    assert not prior.normalised
    with pytest.raises(NotImplementedError):
        prior.sample(1, make_rng(0))


def test_build_prior_builds_what_the_block_names():
    hierarchy = LinearHierarchy()
    assert isinstance(build_prior(spec("prior", name="gaussian"), hierarchy), GaussianPrior)
    joint = build_prior(spec("prior", name="ebm", energy={"name": "layerwise", "hidden": 7, "depth": 1}), hierarchy)
    assert isinstance(joint, JointPrior)
    assert joint.energy.nets["1"][0].weight.shape == (7, 3)


def test_new_energy_is_zero_but_not_stuck_there():
    energy = LayerwiseEnergy(Shapes((3,), (2,)), hidden=4, depth=1)
    energy.initialise(make_rng("energy"))
    z = torch.randn(6, 3, generator=make_rng("z")), torch.randn(6, 2, generator=make_rng("z2"))
    value = energy(TopDown(z, z))
    assert torch.equal(value, torch.zeros(6))
    value.sum().backward()
    assert all(net[-1].weight.grad.abs().sum() > 0 for net in energy.nets.values())


def test_energy_sums_a_term_for_each_chosen_layer():
    energy = LayerwiseEnergy(Shapes((3,), (2, 2)), hidden=4, depth=0)
    rng = make_rng("terms")
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.normal_(generator=rng)
    z = torch.randn(6, 3, generator=rng), torch.randn(6, 2, 2, generator=rng)
    first = z[0] @ energy.nets["1"][0].weight[0] + energy.nets["1"][0].bias
    second = z[1].flatten(1) @ energy.nets["2"][0].weight[0] + energy.nets["2"][0].bias
    torch.testing.assert_close(energy.terms(TopDown(z, z)), torch.stack([first, second], 1))
    torch.testing.assert_close(energy(TopDown(z, z)), first + second)


@pytest.mark.parametrize(("layers", "blind"), [([1], 1), ([2], 0)])
def test_energy_on_one_layer_ignores_the_other(layers, blind):
    energy = LayerwiseEnergy(Shapes((3,), (3,)), hidden=4, depth=1, layers=layers)
    rng = make_rng("one layer")
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.normal_(generator=rng)
    z = [torch.randn(6, 3, generator=rng).requires_grad_() for _ in range(2)]
    seen = torch.autograd.grad(energy(TopDown(tuple(z), tuple(z))).sum(), z, allow_unused=True)
    assert seen[blind] is None
    assert seen[1 - blind].abs().sum() > 0


def mixture():
    prior, rng = MixturePrior(LinearHierarchy((2, 1))), make_rng("mixture")
    root = torch.tril(torch.randn(3, 3, 3, generator=rng) * 0.3)
    cholesky = (
        root - torch.diag_embed(root.diagonal(dim1=1, dim2=2)) + torch.diag_embed(torch.tensor([[0.6, 1.1, 0.8]]))
    )
    prior.set(torch.tensor([0.5, 0.3, 0.2]).log(), torch.randn(3, 3, generator=rng), cholesky)
    same = MixtureSameFamily(
        Categorical(torch.tensor([0.5, 0.3, 0.2]).double()),
        MultivariateNormal(prior.means.double(), scale_tril=cholesky.double()),
    )
    return prior, same


def test_mixture_density_agrees_with_torch():
    prior, same = mixture()
    eps = torch.randn(30, 3, generator=make_rng("eps"))
    torch.testing.assert_close(prior.log_prob(eps).double(), same.log_prob(eps), rtol=0, atol=1e-5)
    torch.testing.assert_close(prior.mixture_log_prob(eps).double(), same.log_prob(eps), rtol=0, atol=1e-5)


def test_mixture_draws_have_its_moments():
    prior, same = mixture()
    means, weights = prior.means.double(), prior.log_weights.exp().double()
    spread = (prior.cholesky @ prior.cholesky.mT).double() + means.unsqueeze(2) * means.unsqueeze(1)
    cov = torch.einsum("k,kij->ij", weights, spread) - torch.outer(same.mean, same.mean)
    assert worst_moment_error(prior.sample(20_000, make_rng("mixture draws")), same.mean, cov) < 5


def test_mixture_is_restored_from_its_state():
    prior, _ = mixture()
    fresh = MixturePrior(LinearHierarchy((2, 1)))
    fresh.load_state_dict(prior.state_dict())
    eps = torch.randn(4, 3, generator=make_rng("eps"))
    assert torch.equal(fresh.log_prob(eps), prior.log_prob(eps))


def test_frozen_restores_gradients_also_after_an_error():
    energy = LayerwiseEnergy(Shapes((3,), (2,)), hidden=4, depth=1)
    energy.nets["1"][0].bias.requires_grad_(False)

    def fail_inside():
        with frozen(energy):
            assert not any(p.requires_grad for p in energy.parameters())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_inside()
    wanted = [name for name, p in energy.named_parameters() if not p.requires_grad]
    assert wanted == ["nets.1.0.bias"]


def test_joint_prior_tilt_follows_the_energy_it_holds():
    prior = joint_prior(LinearHierarchy(), hidden=4, depth=1)
    prior.initialise(make_rng("fresh"))
    assert torch.equal(prior.tilt(torch.randn(3, 5, generator=make_rng("eps"))), torch.zeros(3))
