"""T, its Jacobian, and the densities of the Gaussian hierarchies."""

import pytest
import torch
from oracles import LinearHierarchy, mild_prior
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from jebm.models.backbones.base import flatten, normal_log_prob, split, standard_normal_log_prob
from jebm.models.backbones.perceptron import PerceptronHierarchy
from jebm.runtime.random import make_rng


def chain(dims=(3, 2, 2)):
    hierarchy = PerceptronHierarchy((1, 2, 2), latent_dims=list(dims), hidden=6, depth=1)
    hierarchy.initialise(make_rng("test chain"))
    return hierarchy.double().requires_grad_(False)


def log_det_of_transform(hierarchy, eps):
    """log |det ∂T/∂ε| at each row, by autograd."""
    rows = []
    for row in eps:
        jacobian = torch.autograd.functional.jacobian(lambda e: flatten(hierarchy.top_down_flat(e[None]).z)[0], row)
        rows.append(torch.linalg.slogdet(jacobian).logabsdet)
    return torch.stack(rows)


@pytest.mark.parametrize("hierarchy", [chain(), chain((2, 3)), LinearHierarchy((3, 2, 2))], ids=["3", "2", "linear"])
def test_change_of_variables_cancels_the_jacobian(hierarchy):
    eps = torch.randn(6, hierarchy.dimensions, generator=make_rng("eps"), dtype=torch.float64)
    expected = standard_normal_log_prob(eps) - log_det_of_transform(hierarchy, eps)
    torch.testing.assert_close(hierarchy.log_prob(hierarchy.top_down_flat(eps).z), expected, rtol=0, atol=1e-9)


def test_jacobian_is_not_trivial_so_that_the_test_above_can_fail():
    eps = torch.randn(6, 7, generator=make_rng("eps"), dtype=torch.float64)
    log_det = log_det_of_transform(chain(), eps)
    assert log_det.abs().min() > 0.5
    assert log_det.std() > 0.01


def test_chain_log_prob_is_the_product_of_its_conditionals():
    hierarchy = chain((3, 2))
    z = tuple(torch.randn(5, d, generator=make_rng("z", d), dtype=torch.float64) for d in (3, 2))
    mean, raw = hierarchy.generator_nets[0](z[1]).chunk(2, dim=1)
    sd = torch.exp(1.5 * torch.tanh(raw / 1.5) - 1.5)
    expected = Normal(0.0, 1.0).log_prob(z[1]).sum(1) + Normal(mean, sd).log_prob(z[0]).sum(1)
    torch.testing.assert_close(hierarchy.log_prob(z), expected)


def test_conditional_scale_stays_in_its_stated_range():
    hierarchy = chain((3, 2))
    _, log_sd = hierarchy._conditional(0, 1e4 * torch.randn(50, 2, generator=make_rng("far"), dtype=torch.float64))
    assert log_sd.min() >= -3.0
    assert log_sd.max() <= 0.0
    assert log_sd.min() < -2.9
    assert log_sd.max() > -0.1


def test_transform_feeds_each_layer_from_the_one_above_only():
    hierarchy, rng = chain((2, 2, 2)), make_rng("feeds")
    eps = tuple(torch.randn(1, 2, generator=rng, dtype=torch.float64) for _ in range(3))
    z = hierarchy.transform(eps)
    moved = hierarchy.transform((eps[0] + 1, eps[1], eps[2]))
    assert torch.equal(moved[1], z[1])
    assert torch.equal(moved[2], z[2])
    assert not torch.equal(moved[0], z[0])
    assert torch.equal(z[2], eps[2])


def test_decoder_density_is_normal_around_its_mean():
    hierarchy = chain((3, 2))
    top = hierarchy.top_down_flat(torch.randn(4, 5, generator=make_rng("decode"), dtype=torch.float64))
    x = torch.rand(4, 1, 2, 2, generator=make_rng("x"), dtype=torch.float64) * 2 - 1
    distribution = hierarchy.decode(top)
    expected = Normal(torch.tanh(hierarchy.decoder(top.z[0])).reshape(4, 1, 2, 2), 0.3).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(distribution.log_prob(x), expected)
    assert distribution.mean.shape == (4, 1, 2, 2)


@pytest.mark.parametrize("name", ["bernoulli", "heteroscedastic-gaussian", "nvae-logistic-mixture"])
def test_decoder_parametrises_any_likelihood(name):
    hierarchy = PerceptronHierarchy((3, 2, 2), latent_dims=[3, 2], hidden=6, depth=1, likelihood={"name": name})
    hierarchy.initialise(make_rng("likelihood"))
    distribution = hierarchy.decode(hierarchy.top_down_flat(torch.randn(4, 5, generator=make_rng("decode"))))
    assert distribution.mean.shape == (4, 3, 2, 2)
    assert distribution.log_prob(distribution.mean).shape == (4,)
    assert hierarchy.levels == (256 if name == "nvae-logistic-mixture" else None)
    assert hierarchy.pixel_means() is None


def test_infer_reports_the_density_and_divergence_of_its_own_draw():
    hierarchy = PerceptronHierarchy((1, 2, 2), latent_dims=[3, 2], hidden=6, depth=1)
    hierarchy.initialise(make_rng("infer"))
    x = torch.rand(4, 1, 2, 2, generator=make_rng("x")) * 2 - 1
    posterior = hierarchy.infer(x, make_rng("draw"))
    context, standard = x.flatten(1), Normal(0.0, 1.0)
    for layer in (1, 0):
        mean, log_sd = hierarchy.inference_nets[layer](context).chunk(2, dim=1)
        q = Normal(mean, log_sd.exp())
        torch.testing.assert_close(posterior.log_q[:, layer], q.log_prob(posterior.eps[layer]).sum(1))
        torch.testing.assert_close(posterior.kl[:, layer], kl_divergence(q, standard).sum(1))
        context = torch.cat([context, posterior.eps[layer]], 1)


def test_infer_is_reparameterised_and_repeats_with_its_rng():
    hierarchy = PerceptronHierarchy((1, 2, 2), latent_dims=[3, 2], hidden=6, depth=1)
    hierarchy.initialise(make_rng("infer"))
    x = torch.rand(2, 1, 2, 2, generator=make_rng("x")) * 2 - 1
    first, again = (hierarchy.infer(x, make_rng("draw")).eps for _ in range(2))
    assert torch.equal(flatten(first), flatten(again))
    flatten(first).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in hierarchy.inference_nets.parameters())


def test_initialisation_depends_on_its_rng_only():
    def weights(*parts):
        hierarchy = PerceptronHierarchy((1, 2, 2), latent_dims=[3, 2], hidden=6, depth=1)
        hierarchy.initialise(make_rng(*parts))
        return torch.cat([p.flatten() for p in hierarchy.parameters()])

    first = weights("a")
    torch.manual_seed(1)
    assert torch.equal(first, weights("a"))
    assert not torch.equal(first, weights("b"))
    assert torch.isfinite(first).all()


def test_mean_gain_widens_the_means_and_leaves_the_scales():
    nets = {}
    for gain in (1.0, 3.0):
        hierarchy = PerceptronHierarchy((1, 2, 2), latent_dims=[3, 2], hidden=6, depth=1, mean_gain=gain)
        hierarchy.initialise(make_rng("gain"))
        nets[gain] = hierarchy.generator_nets[0][-1].weight.detach()
    torch.testing.assert_close(nets[3.0][:3], 3 * nets[1.0][:3])
    torch.testing.assert_close(nets[3.0][3:], nets[1.0][3:])


def test_split_and_flatten_are_inverse_and_bottom_first():
    flat = torch.arange(14.0).reshape(2, 7)
    layers = split(flat, ((2, 2), (3,)))
    assert layers[0].tolist() == [[[0, 1], [2, 3]], [[7, 8], [9, 10]]]
    assert layers[1].tolist() == [[4, 5, 6], [11, 12, 13]]
    assert torch.equal(flatten(layers), flat)


def test_normal_densities_agree_with_torch():
    value, mean, log_sd = torch.randn(3, 4, 2, 3, generator=make_rng("normal"), dtype=torch.float64)
    expected = Normal(mean, log_sd.exp()).log_prob(value).sum((1, 2))
    torch.testing.assert_close(normal_log_prob(value, mean, log_sd), expected)
    torch.testing.assert_close(standard_normal_log_prob(value), Normal(0.0, 1.0).log_prob(value).sum((1, 2)))


def test_linear_oracle_agrees_with_its_own_definition():
    """The oracle's q is exact: p(x | ε) N(ε) / q(ε | x) is the same for every ε, and it is p(x)."""
    hierarchy = LinearHierarchy((3, 2))
    x = torch.randn(2, 1, 1, 4, generator=make_rng("x"))
    posterior = hierarchy.infer(x, make_rng("q"))
    mean, cov = hierarchy.posterior_moments(x)
    exact = MultivariateNormal(mean, cov).log_prob(flatten(posterior.eps))
    torch.testing.assert_close(posterior.log_q.sum(1), exact, rtol=0, atol=1e-5)


def test_mild_hierarchy_is_not_linear():
    hierarchy, _ = mild_prior()
    top = torch.tensor([[-1.5], [0.0], [1.5]])
    mean, log_sd = hierarchy._conditional(0, top)
    assert abs(mean[0] + mean[2] - 2 * mean[1]) > 0.01
    assert log_sd.std() > 0.01


def test_fewer_large_images_are_taken_at_once():
    """Digits keep the numbers with which their results were recorded; images of 32 and 64 pixels stay within memory."""
    rows = {}
    for shape in ((1, 8, 8), (30,), (3, 32, 32), (3, 64, 64), (3, 2048, 2048)):
        hierarchy = LinearHierarchy()
        hierarchy.image_shape = shape
        rows[shape] = hierarchy.max_batch_size(), hierarchy.max_batch_size(20_000)
    assert rows[(1, 8, 8)] == rows[(30,)] == (2000, 20_000)
    assert rows[(3, 32, 32)] == (682, 682)
    assert rows[(3, 64, 64)] == (170, 170)
    assert rows[(3, 2048, 2048)] == (1, 1)
