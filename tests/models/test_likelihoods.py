"""Likelihoods against finite sums over all levels and against torch's own densities."""

import itertools
import math

import pytest
import torch
from oracles import spec
from torch.distributions import Independent, Normal

from jebm.config.components import build
from jebm.data.dataset import to_pixels
from jebm.errors import JebmError
from jebm.runtime.random import make_rng


def likelihood(image_shape=(1, 2, 2), **block):
    return build("likelihood", spec("likelihood", **block), image_shape)


def parameters(model, scale=1.0, batch=3, dtype=torch.float64, name="parameters"):
    drawn = torch.randn(batch, *model.parameter_shape, generator=make_rng(name), dtype=torch.float64)
    return (scale * drawn).to(dtype)


def pixels(model, batch=3):
    return torch.rand(batch, *model.image_shape, generator=make_rng("pixels"), dtype=torch.float64) * 2 - 1


# Gaussian ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learned", [False, True])
def test_gaussian_is_torch_s_normal_around_the_tanh(learned):
    model = likelihood((3, 2, 2), name="gaussian", sigma=0.25, learned=learned)
    raw, x = parameters(model), pixels(model)
    expected = Independent(Normal(torch.tanh(raw), 0.25), 3).log_prob(x)
    torch.testing.assert_close(model(raw).log_prob(x), expected, rtol=1e-6, atol=1e-5)
    if not learned:
        constant = torch.full((), 0.25, dtype=torch.float64)
        assert torch.equal(model(raw).log_prob(x), Independent(Normal(torch.tanh(raw), constant), 3).log_prob(x))
    torch.testing.assert_close(model(raw).mean, torch.tanh(raw))


def test_gaussian_of_data_without_pixels():
    model = likelihood((5,), name="gaussian")
    assert model.parameter_shape == (5,)
    assert model(torch.zeros(4, 5)).log_prob(torch.zeros(4, 5)).shape == (4,)


def test_gaussian_draws_have_its_moments():
    model = likelihood((1, 1, 1), name="gaussian", sigma=0.5)
    draws = model(torch.full((40_000, 1, 1, 1), 0.3)).sample(make_rng("draws"))
    assert draws.mean().item() == pytest.approx(math.tanh(0.3), abs=5 * 0.5 / 200)
    assert draws.std().item() == pytest.approx(0.5, rel=0.02)


def test_learned_sigma_finds_the_residual_and_respects_its_floor():
    model = likelihood((1, 8, 8), name="gaussian", sigma=0.3, learned=True, min_sigma=0.05)
    noise = torch.randn(200, 1, 8, 8, generator=make_rng("noise"))
    for spread, expected in ((0.11, 0.11), (0.01, 0.05)):
        optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(300):
            optimiser.zero_grad()
            (-model(torch.zeros_like(noise)).log_prob(spread * noise).mean() / 64).backward()
            optimiser.step()
        assert float(model.sigma.detach()) == pytest.approx(expected, rel=0.03)
        assert model.sigma > 0.05


def test_learned_sigma_must_start_above_its_floor():
    with pytest.raises(JebmError, match=r"likelihood\.sigma: is 0\.01; to be learned it must start above min_sigma"):
        likelihood(name="gaussian", sigma=0.01, learned=True)
    assert likelihood(name="gaussian", sigma=0.01).sigma == 0.01


# Discretised mixture of logistics ------------------------------------------------------------------------------------


def every_pixel(model):
    """All images of one pixel, (levels^channels, channels, 1, 1), float64."""
    colours = model.image_shape[0]
    grid = torch.tensor(list(itertools.product(range(model.levels), repeat=colours)))
    return to_pixels(grid.reshape(-1, colours, 1, 1), model.levels).double()


def masses(model, raw):
    """log p of every image of one pixel under one row of parameters."""
    images = every_pixel(model)
    return images, model(raw[:1].expand(len(images), *raw.shape[1:])).log_prob(images)


@pytest.mark.parametrize(
    ("colours", "levels", "scale"),
    [(1, 2, 1.0), (1, 17, 1.0), (1, 256, 3.0), (3, 5, 2.0), (1, 256, 30.0), (3, 6, 30.0)],
)
def test_masses_sum_to_one(colours, levels, scale):
    """At ordinary and at extreme parameters (scales at both of their limits, means far outside the range)."""
    model = likelihood((colours, 1, 1), name="logistic-mixture", levels=levels, components=3)
    for row in parameters(model, scale, batch=5):
        _, log_mass = masses(model, row[None])
        assert torch.logsumexp(log_mass, 0).item() == pytest.approx(0.0, abs=1e-6)


def test_masses_are_differences_of_the_distribution_function():
    """Grey, one component: the definition itself, by tensors of float64, at every level."""
    model = likelihood((1, 1, 1), name="logistic-mixture", levels=9, components=1)
    logit, mean, log_scale = torch.tensor([0.7]), torch.tensor([0.2]), torch.tensor([-1.5])
    images, log_mass = masses(model, torch.stack([logit, mean, log_scale], 1)[:, :, None, None].double())
    edges = torch.tensor([-math.inf, *[-1 + (2 * k - 1) / 8 for k in range(1, 9)], math.inf], dtype=torch.float64)
    cdf = torch.sigmoid((edges - 0.2) / math.exp(-1.5))
    torch.testing.assert_close(log_mass.exp(), cdf.diff(), rtol=1e-6, atol=1e-7)
    assert images.flatten().tolist() == pytest.approx([-1 + k / 4 for k in range(9)])


def test_narrow_scale_puts_all_mass_on_the_nearest_level():
    model = likelihood((1, 1, 1), name="logistic-mixture", levels=256, components=1)
    at = float(to_pixels(torch.tensor(77), 256))
    raw = torch.tensor([0.0, at, -100.0]).reshape(1, 3, 1, 1)
    _, log_mass = masses(model, raw)
    assert log_mass.argmax() == 77
    assert log_mass[77].exp().item() == pytest.approx(math.tanh(math.exp(7) / 255 / 2), abs=1e-3)  # the published floor
    assert torch.isfinite(log_mass).all()


def test_channels_are_coupled_linearly_and_share_the_component():
    """One component, scales so narrow that a channel's mode is its mean: green follows red, blue both."""
    model = likelihood((3, 1, 1), name="logistic-mixture", levels=11, components=1)
    raw = torch.zeros(1, model.channels, 1, 1, dtype=torch.float64)
    raw[0, 1:4, 0, 0] = torch.tensor([0.4, 0.0, 0.2])
    raw[0, 4:7] = -4.0
    raw[0, 7:, 0, 0] = torch.atanh(torch.tensor([0.5, -0.5, 0.999]))
    images, log_mass = masses(model, raw)
    assert images[log_mass.argmax()].flatten().tolist() == pytest.approx([0.4, 0.2, 0.2], abs=1e-6)
    torch.testing.assert_close(model(raw).mean.flatten(), torch.tensor([0.4, 0.2, 0.2]).double(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("levels", [2, 5, 64])
def test_mean_of_grey_pixels_is_that_of_the_finite_sum(levels):
    model = likelihood((1, 1, 1), name="logistic-mixture", levels=levels, components=4)
    for row in parameters(model, 1.5, batch=6):
        images, log_mass = masses(model, row[None])
        expected = (log_mass.exp() * images.flatten()).sum()
        assert model(row[None]).mean.item() == pytest.approx(expected.item(), abs=1e-6)


def test_mean_of_colours_is_that_of_the_finite_sum_where_the_ends_do_not_bend_it():
    model = likelihood((3, 1, 1), name="logistic-mixture", levels=13, components=2)
    for row, exact_within in ((parameters(model, 0.2), 2e-3), (parameters(model, 1.5), 0.2)):
        raw = row.clone()
        if exact_within < 0.1:
            raw.unflatten(1, (2, 10))[:, :, 4:7] -= 2.5  # scales near a level's width, means near the middle
        for single in raw:
            images, log_mass = masses(model, single[None])
            expected = (log_mass.exp()[:, None] * images.flatten(1)).sum(0)
            found = model(single[None]).mean.flatten()
            assert abs(float(found[0] - expected[0])) < 1e-6  # red is exact
            assert float((found - expected).abs().max()) < exact_within
            assert found.abs().max() <= 1


def test_draws_follow_the_masses():
    model = likelihood((3, 1, 1), name="logistic-mixture", levels=3, components=2)
    raw, count = parameters(model, 1.0, batch=1), 40_000
    _, log_mass = masses(model, raw)
    draws = model(raw.expand(count, -1, -1, -1)).sample(make_rng("draws"))
    codes = ((draws.flatten(1) + 1).round().long() * torch.tensor([9, 3, 1])).sum(1)
    found = torch.bincount(codes, minlength=27) / count
    error = (log_mass.exp() * (1 - log_mass.exp()) / count).sqrt() + 1e-5
    assert ((found - log_mass.exp()).abs() / error).max() < 5
    assert set(draws.unique().tolist()) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("scale", [1.0, 50.0, 1e4])
def test_gradients_are_finite_and_right(scale):
    model = likelihood((3, 2, 2), name="logistic-mixture", levels=256, components=10)
    raw = parameters(model, scale, dtype=torch.float32).requires_grad_()
    x = to_pixels(torch.randint(256, (3, 3, 2, 2), generator=make_rng("levels")), 256)
    value = model(raw).log_prob(x)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(raw.grad).all()
    if scale == 1.0:
        exact = raw.detach().double().requires_grad_()
        assert torch.autograd.gradcheck(lambda p: model(p).log_prob(x.double()), exact, eps=1e-6, atol=1e-4)


def test_black_and_white_images_are_the_ends():
    """Float rounding of the outermost levels must not put them inside."""
    for levels in (2, 17, 32, 100, 255, 256):
        model = likelihood((1, 1, 1), name="logistic-mixture", levels=levels, components=1)
        raw = torch.tensor([0.0, 5.0, 0.0]).reshape(1, 3, 1, 1)
        ends = to_pixels(torch.tensor([0, levels - 1]).reshape(2, 1, 1, 1), levels)
        found = model(raw.expand(2, -1, -1, -1)).log_prob(ends)
        edge = 1 / (levels - 1)
        expected = torch.tensor([math.log(1 / (1 + math.exp(6 - edge))), math.log(1 / (1 + math.exp(-4 - edge)))])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 4), (30,)])
def test_mixture_of_other_than_grey_or_colour_is_refused(shape):
    with pytest.raises(JebmError, match=r"likelihood\.name: 'logistic-mixture' needs grey or RGB images"):
        likelihood(shape, name="logistic-mixture", levels=17)
