"""p(x | z): masses sum to 1, draws have the stated moments, and low precision does not overflow."""

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from jebm.config.components import build
from jebm.models.likelihoods.bernoulli import BernoulliPixels
from jebm.models.likelihoods.heteroscedastic_gaussian import GaussianPixels
from jebm.models.likelihoods.nvae_logistic_mixture import MixturePixels
from jebm.runtime.random import make_rng


def maps(channels, count=2, size=2, scale=1.0):
    return scale * torch.randn(count, channels, size, size, generator=make_rng("maps"), dtype=torch.float64)


@pytest.mark.parametrize("levels", [2, 17, 32, 256])
def test_mixture_of_one_colour_sums_to_one_over_the_levels(levels):
    pixels = MixturePixels(maps(15), 1, levels)
    grid = torch.linspace(-1, 1, levels, dtype=torch.float64)
    total = sum(pixels.element_log_prob(torch.full((2, 1, 2, 2), float(x))).exp() for x in grid)
    # Values above 0.99 take the whole tail, of which 254 of 255 is one too: published code does that as well.
    expected = torch.ones_like(total)
    if levels == 256:
        edge = torch.full((2, 1, 2, 2), 253.0 / 127.5 - 1)
        expected = expected + MixturePixels(pixels.maps, 1, levels).element_log_prob(torch.ones_like(edge)).exp()
    torch.testing.assert_close(total, expected, rtol=0, atol=1e-3)


def test_mixture_of_three_colours_sums_to_one_over_the_levels():
    pixels = MixturePixels(maps(20, count=1, size=1), 3, 5)
    grid = torch.linspace(-1, 1, 5, dtype=torch.float64)
    colours = torch.cartesian_prod(grid, grid, grid)
    spread = MixturePixels(pixels.maps.expand(len(colours), -1, -1, -1), 3, 5)
    total = spread.element_log_prob(colours[:, :, None, None]).exp().sum()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-9)


def test_components_are_never_narrower_than_exp_minus_7():
    raw = maps(9)
    narrow, at_limit, wider = raw.clone(), raw.clone(), raw.clone()
    narrow[:, 6:], at_limit[:, 6:], wider[:, 6:] = -20.0, -7.0, -6.9
    x = torch.rand(2, 1, 2, 2, generator=make_rng("x"), dtype=torch.float64) * 2 - 1
    values = [MixturePixels(part, 1, 256).log_prob(x) for part in (narrow, at_limit, wider)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[1], values[2])


def test_mixture_far_off_its_means_stays_finite_with_a_gradient():
    raw = maps(20, scale=30.0).requires_grad_(True)
    log_prob = MixturePixels(raw, 3, 256).log_prob(torch.rand(2, 3, 2, 2, generator=make_rng("x")) * 2 - 1)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(raw.grad).all()


def test_draws_of_a_mixture_have_its_mean_where_nothing_is_clamped():
    raw = maps(9, count=1, size=1).clone()
    raw[:, 6:] = -4.0  # narrow
    raw[:, 3:6] *= 0.1
    pixels = MixturePixels(raw.expand(20_000, -1, -1, -1), 1, 256)
    draws = pixels.sample(make_rng("draws"))
    assert abs(draws.mean() - pixels.mean[0].mean()) < 5 * draws.std() / len(draws) ** 0.5
    hot = pixels.sample(make_rng("draws"), temperature=0.25)  # a lower temperature means wider components
    assert (hot - hot.median()).abs().median() > (draws - draws.median()).abs().median() * 0.5


def test_gaussian_and_bernoulli_densities_are_those_of_torch():
    raw, x = maps(6), torch.rand(2, 3, 2, 2, generator=make_rng("x"), dtype=torch.float64) * 2 - 1
    pixels = GaussianPixels(raw, 3)
    sigma = torch.exp(5 * torch.tanh(raw[:, 3:] / 5)) + 0.01
    expected = Normal(5 * torch.tanh(raw[:, :3] / 5), sigma).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(pixels.log_prob(x), expected)
    floor = GaussianPixels(raw - 10, 3, min_log_sigma=-2.0)
    assert (floor.for_density.sigma >= torch.exp(torch.tensor(-2.0))).all()
    assert (floor.normal.sigma < 0.1).all()
    bits, binary = BernoulliPixels(raw, 6), (maps(6) > 0).double()
    torch.testing.assert_close(bits.log_prob(2 * binary - 1), Bernoulli(logits=raw).log_prob(binary).sum((1, 2, 3)))
    torch.testing.assert_close(bits.mean, 2 * torch.sigmoid(raw) - 1)
    assert set(bits.sample(make_rng("bits")).unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("name", ["bernoulli", "heteroscedastic-gaussian", "nvae-logistic-mixture"])
def test_maps_of_low_precision_are_evaluated_in_single(name):
    make = build("likelihood", {"name": name}, (3, 2, 2))
    raw = maps(make.channels).to(torch.bfloat16)
    x = torch.rand(2, 3, 2, 2, generator=make_rng("x")) * 2 - 1
    value = make(raw).log_prob(x)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, make(raw.float()).log_prob(x))
