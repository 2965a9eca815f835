"""The convolutional hierarchy: published shapes and initialisation, one density, and an inference network that fits."""

import math

import pytest
import torch
from oracles import spec
from torch import nn
from torch.distributions import Normal, kl_divergence

from jebm.config.components import build
from jebm.data.dataset import to_pixels
from jebm.errors import JebmError
from jebm.models.backbones.base import Hierarchy, flatten, standard_normal_log_prob
from jebm.models.backbones.convolutional import ConvolutionalHierarchy
from jebm.models.priors.ebm import JointPrior
from jebm.runtime.random import make_rng
from jebm.sampling.spaces import SPACES

TINY = {"latent_dims": [3, 2], "channels": [4, 3], "hidden": 5, "depth": 1, "inference_features": 6}


def tiny(image_shape=(1, 4, 4), **changes):
    hierarchy = build("backbone", spec("backbone", name="convolutional", **{**TINY, **changes}), image_shape)
    hierarchy.initialise(make_rng("convolutional"))
    return hierarchy


def test_published_sizes_are_the_defaults():
    """Kernel, stride and padding of each stage on 32 pixels, and p(z_1 | z_2) with four hidden layers of 200."""
    hierarchy = ConvolutionalHierarchy((3, 32, 32), likelihood=spec("likelihood", name="gaussian"))
    stages = [m for m in hierarchy.decoder if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels, *m.kernel_size[:1], *m.stride[:1], *m.padding[:1]) for m in stages] == [
        (128, 1024, 8, 1, 0), (1024, 512, 4, 2, 1), (512, 256, 4, 2, 1), (256, 3, 3, 1, 1)
    ]  # fmt: skip
    assert hierarchy.latent_shapes == ((128,), (100,))
    (net,) = hierarchy.generator_nets
    assert [(m.in_features, m.out_features) for m in net if isinstance(m, nn.Linear)] == [
        (100, 200), (200, 200), (200, 200), (200, 200), (200, 256)
    ]  # fmt: skip
    assert {m.negative_slope for m in hierarchy.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert hierarchy.min_sigma == 0.01
    assert hierarchy.likelihood.sigma == 0.3


def test_initialisation_is_pytorch_s_default_drawn_from_the_rng():
    """The range of every weight against that of the constructor's own draw, in a hierarchy of some size."""
    hierarchy, again = (tiny((3, 8, 8), channels=[24, 16], hidden=40) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(hierarchy.parameters(), again.parameters(), strict=True))
    compared = 0
    torch.manual_seed(0)
    for layer in [m for m in hierarchy.modules() if hasattr(m, "weight")]:
        if isinstance(layer, nn.Linear):
            default = nn.Linear(layer.in_features, layer.out_features)
        else:
            default = (nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.ConvTranspose2d)(
                layer.in_channels, layer.out_channels, layer.kernel_size
            )
        for ours, theirs in ((layer.weight, default.weight), (layer.bias, default.bias)):
            if ours.numel() > 200:
                assert ours.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.05)
                compared += 1
    assert compared >= 8


@pytest.mark.parametrize(
    ("shape", "channels", "coarsest"),
    [((1, 28, 28), [4, 3, 2], 7), ((3, 32, 32), [4, 3, 2], 8), ((3, 64, 64), [5, 4, 3, 2], 8), ((1, 28, 28), [3], 28)],
)
def test_image_sizes(shape, channels, coarsest):
    hierarchy = tiny(shape, channels=channels)
    assert hierarchy.decoder[0].kernel_size == (coarsest, coarsest)
    x = torch.rand(2, *shape, generator=make_rng("x")) * 2 - 1
    posterior = hierarchy.infer(x, make_rng("q"))
    distribution = hierarchy.decode(posterior.top)
    assert distribution.mean.shape == distribution.sample(make_rng("draw")).shape == (2, *shape)
    assert distribution.log_prob(x).shape == (2,)
    assert [z.shape for z in posterior.eps] == [(2, 3), (2, 2)]


@pytest.mark.parametrize("shape", [(3, 30, 30), (3, 32, 16), (10,)])
def test_data_that_the_maps_do_not_end_at_are_refused(shape):
    with pytest.raises(JebmError, match=r"backbone\.channels: 3 maps, each twice the size"):
        tiny(shape, channels=[4, 4, 4])


def test_first_stage_is_the_transposed_convolution_of_one_pixel():
    first = tiny().double().decoder[0]
    x = torch.randn(3, 3, generator=make_rng("x"), dtype=torch.float64)
    expected = nn.functional.conv_transpose2d(x[:, :, None, None], first.weight, first.bias)
    torch.testing.assert_close(first(x), expected)


@pytest.mark.parametrize("dims", [[3, 2], [2, 3, 1]])
def test_change_of_variables_cancels_the_jacobian(dims):
    hierarchy = tiny(latent_dims=dims).double().requires_grad_(False)
    eps = torch.randn(3, sum(dims), generator=make_rng("eps"), dtype=torch.float64)
    log_det = torch.stack(
        [
            torch.linalg.slogdet(
                torch.autograd.functional.jacobian(lambda e: flatten(hierarchy.top_down_flat(e[None]).z)[0], row)
            ).logabsdet
            for row in eps
        ]
    )
    assert log_det.abs().min() > 0.01  # so that the test can fail
    z = hierarchy.top_down_flat(eps).z
    torch.testing.assert_close(hierarchy.log_prob(z), standard_normal_log_prob(eps) - log_det, rtol=0, atol=1e-8)


@pytest.mark.parametrize("whiten", [ConvolutionalHierarchy.whiten, Hierarchy.whiten], ids=["own", "any hierarchy's"])
def test_whitening_inverts_the_transform(whiten):
    hierarchy = tiny(latent_dims=[2, 3, 1], sigma_start=0.1).double()
    eps = torch.randn(5, 6, generator=make_rng("eps"), dtype=torch.float64)
    z = hierarchy.transform(hierarchy.split(eps))
    torch.testing.assert_close(flatten(whiten(hierarchy, z)), eps, rtol=0, atol=1e-9)
    assert not torch.allclose(flatten(z), eps, atol=0.1)


def test_scales_stay_above_their_floor():
    hierarchy = tiny(min_sigma=0.2).double()
    with torch.no_grad():
        hierarchy.generator_nets[0][-1].bias[3:] = torch.tensor([-50.0, 0.0, 1.0])
        hierarchy.generator_nets[0][-1].weight.zero_()
    _, log_sd = hierarchy._conditional(0, torch.zeros(1, 2, dtype=torch.float64))
    expected = torch.tensor([[math.exp(-50.0) + 0.2, 1.2, math.e + 0.2]], dtype=torch.float64)
    torch.testing.assert_close(log_sd.exp(), expected)


def test_start_of_the_conditional_is_as_asked():
    plain, other = tiny(), tiny(sigma_start=0.25, mean_gain=3.0)
    a, b = (h.generator_nets[0][-1] for h in (plain, other))
    torch.testing.assert_close(b.weight[:3], 3 * a.weight[:3])
    torch.testing.assert_close(b.weight[3:], a.weight[3:])
    torch.testing.assert_close(b.bias[3:], a.bias[3:] + math.log(0.25))


def test_infer_reports_the_density_and_divergence_of_its_own_draw():
    hierarchy = tiny()
    x = torch.rand(4, 1, 4, 4, generator=make_rng("x")) * 2 - 1
    posterior = hierarchy.infer(x, make_rng("draw"))
    context = hierarchy.encoder(x)
    for layer in (1, 0):
        mean, log_sd = hierarchy.inference_nets[layer](context).chunk(2, dim=1)
        q = Normal(mean, log_sd.exp())
        torch.testing.assert_close(posterior.log_q[:, layer], q.log_prob(posterior.eps[layer]).sum(1))
        torch.testing.assert_close(posterior.kl[:, layer], kl_divergence(q, Normal(0.0, 1.0)).sum(1))
        context = torch.cat([context, posterior.eps[layer]], 1)
    torch.testing.assert_close(flatten(posterior.top.z), flatten(hierarchy.transform(posterior.eps)))


def test_all_parameters_learn_and_belong_to_one_side():
    hierarchy = tiny()
    x = torch.rand(4, 1, 4, 4, generator=make_rng("x")) * 2 - 1
    posterior = hierarchy.infer(x, make_rng("q"))
    (hierarchy.decode(posterior.top).log_prob(x).sum() - posterior.kl.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in hierarchy.parameters())
    hierarchy.zero_grad()
    z = hierarchy.split(torch.randn(4, 5, generator=make_rng("z")))
    top, log_p = hierarchy.condition(z)
    (hierarchy.decode(top).log_prob(x).sum() + log_p.sum()).backward()
    assert all(p.grad is None for p in hierarchy.inference_parameters())
    assert all(p.grad is not None for p in hierarchy.generative_parameters())


def test_gradients_of_prior_and_posterior_in_both_spaces_are_those_of_their_values():
    """Autograd against central differences, in float64, through energies, conditionals, decoder and likelihood."""
    hierarchy = tiny(likelihood={"name": "logistic-mixture", "levels": 17, "components": 2}).double()
    prior = JointPrior(hierarchy, energy=spec("energy", name="layerwise", hidden=[5, 4], depth=[2, 1], start="random"))
    prior.initialise(make_rng("energies"))
    prior.double().requires_grad_(False)
    hierarchy.requires_grad_(False)
    x = to_pixels(torch.randint(17, (4, 1, 4, 4), generator=make_rng("x")), 17).double()
    at = torch.randn(4, 5, generator=make_rng("at"), dtype=torch.float64)
    for kind in SPACES.values():
        space = kind(hierarchy, prior)
        for target in (space.target(), space.posterior(x)):
            _, gradient = target.log_prob_and_gradient(at)
            step = 1e-6 * torch.eye(5, dtype=torch.float64)
            slope = torch.stack([(target.log_prob(at + s) - target.log_prob(at - s)) / 2e-6 for s in step], 1)
            torch.testing.assert_close(gradient, slope, rtol=1e-5, atol=1e-6)
            assert gradient.abs().min() > 0
