"""The residual top-down hierarchy: one density, one path, at every shape."""

import pytest
import torch
from oracles import spec
from torch.distributions import Normal, kl_divergence

from jebm.config.components import build
from jebm.data.dataset import to_pixels
from jebm.errors import JebmError
from jebm.features.classifier import Classifier
from jebm.models.backbones.base import flatten, normal_log_prob, standard_normal_log_prob
from jebm.models.backbones.residual import ResidualHierarchy
from jebm.runtime.random import make_rng

SHAPES = {
    "vector": ((1, 4, 4), {"layers_per_scale": [3], "latent_channels": 2, "channels": [8]}),
    "table": ((5,), {"layers_per_scale": [2], "latent_channels": 2, "channels": [8]}),
    "maps": ((2, 4, 4), {"layers_per_scale": [2, 1], "resolutions": [4, 2], "channels": [4, 6], "latent_channels": 1}),
    "maps and a vector": (
        (1, 4, 4),
        {"layers_per_scale": [1, 2], "resolutions": [4, 1], "channels": [3, 6], "latent_channels": 1},
    ),
    "coarser than the image": (
        (1, 8, 8),
        {"layers_per_scale": [2], "resolutions": [4], "channels": [4], "latent_channels": 1},
    ),
}


def residual(name="vector", **settings):
    image_shape, block = SHAPES[name]
    hierarchy = ResidualHierarchy(image_shape, **block, inference_hidden=4, **settings)
    hierarchy.initialise(make_rng("residual", name))
    return hierarchy.double()


@pytest.mark.parametrize("name", SHAPES)
def test_passes_agree_and_shapes_are_those_stated(name):
    """Noise → latents, and the same latents given: one path; its density is N(ε) over the Jacobian's diagonal."""
    hierarchy = residual(name)
    eps = tuple(torch.randn(3, *s, generator=make_rng("eps"), dtype=torch.float64) for s in hierarchy.latent_shapes)
    top = hierarchy.top_down(eps)
    again, terms = hierarchy.condition(top.z)
    assert [tuple(z.shape[1:]) for z in top.z] == list(hierarchy.latent_shapes)
    assert [tuple(h.shape[1:]) for h in top.context] == list(hierarchy.context_shapes)
    torch.testing.assert_close(flatten(again.context), flatten(top.context))
    assert terms.shape == (3, hierarchy.layers)
    assert hierarchy.decode(top).mean.shape == (3, *hierarchy.image_shape)
    assert hierarchy.decode(top).log_prob(hierarchy.decode(top).mean).shape == (3,)


@pytest.mark.parametrize("name", ["vector", "maps", "maps and a vector"])
def test_change_of_variables_cancels_the_jacobian(name):
    hierarchy = residual(name).requires_grad_(False)
    eps = torch.randn(2, hierarchy.dimensions, generator=make_rng("eps"), dtype=torch.float64)
    log_det = torch.stack(
        [
            torch.linalg.slogdet(
                torch.autograd.functional.jacobian(lambda e: flatten(hierarchy.top_down_flat(e[None]).z)[0], row)
            ).logabsdet
            for row in eps
        ]
    )
    assert log_det.abs().min() > 0.01  # so that the test can fail
    expected = standard_normal_log_prob(eps) - log_det
    torch.testing.assert_close(hierarchy.log_prob(hierarchy.top_down_flat(eps).z), expected, rtol=0, atol=1e-8)


def test_context_of_a_layer_depends_on_it_and_the_layers_above_only():
    hierarchy = residual()
    eps = [torch.randn(1, 2, generator=make_rng("eps", i), dtype=torch.float64) for i in range(3)]
    before = hierarchy.top_down(tuple(eps)).context
    eps[1] = eps[1] + 1
    after = hierarchy.top_down(tuple(eps)).context
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, False, True]


def test_every_layer_reaches_the_image_also_past_the_layers_below():
    """Unlike in a plain chain, the image changes with an upper latent while the latents below are fixed."""
    hierarchy = residual()
    z = [torch.randn(1, 2, generator=make_rng("z", i), dtype=torch.float64) for i in range(3)]
    means = [hierarchy.decode(hierarchy.condition(tuple(z))[0]).mean]
    for layer in range(3):
        moved = [value + (i == layer) for i, value in enumerate(z)]
        means.append(hierarchy.decode(hierarchy.condition(tuple(moved))[0]).mean)
    assert all((mean - means[0]).abs().max() > 1e-3 for mean in means[1:])


def test_inference_and_decoder_share_one_path():
    hierarchy = residual().eval()
    x = torch.rand(4, 1, 4, 4, generator=make_rng("x"), dtype=torch.float64) * 2 - 1
    posterior = hierarchy.float().infer(x.float(), make_rng("q"))
    top = hierarchy.top_down(posterior.eps)
    torch.testing.assert_close(flatten(posterior.top.z), flatten(top.z))
    torch.testing.assert_close(flatten(posterior.top.context), flatten(top.context))


def test_infer_reports_the_density_and_divergence_of_its_own_draw():
    hierarchy = residual().float().eval()
    x = torch.rand(4, 1, 4, 4, generator=make_rng("x")) * 2 - 1
    posterior = hierarchy.infer(x, make_rng("q"))
    features = hierarchy._features(x, make_rng("unused"))
    rng, above = make_rng("q"), None
    for layer in reversed(range(3)):
        h = hierarchy._path(layer, above, x)
        mean, log_sd = hierarchy.latent_layers[layer].posterior(h, features[0])
        q = Normal(mean, log_sd.exp())
        assert torch.equal(posterior.eps[layer], mean + log_sd.exp() * torch.randn(mean.shape, generator=rng))
        torch.testing.assert_close(posterior.log_q[:, layer], q.log_prob(posterior.eps[layer]).sum(1))
        torch.testing.assert_close(posterior.kl[:, layer], kl_divergence(q, Normal(0.0, 1.0)).sum(1))
        above = posterior.top.context[layer]


def test_condition_is_the_product_of_normals_read_off_the_path():
    hierarchy = residual()
    z = tuple(torch.randn(5, 2, generator=make_rng("z", i), dtype=torch.float64) for i in range(3))
    top, terms = hierarchy.condition(z)
    h = hierarchy._path(1, top.context[2], z[1])
    mean, log_sd = hierarchy.latent_layers[1].conditional(h)
    torch.testing.assert_close(terms[:, 1], normal_log_prob(z[1], mean, log_sd))
    assert log_sd.abs().max() < 2


def test_dropout_and_noise_act_in_training_only():
    x = torch.rand(4, 1, 4, 4, generator=make_rng("x")) * 2 - 1
    for settings in ({"dropout": 0.5}, {"noise": 0.5}):
        hierarchy, plain = residual(**settings).float(), residual().float()
        expected = plain.eval().infer(x, make_rng("q")).kl
        assert torch.equal(hierarchy.eval().infer(x, make_rng("q")).kl, expected)
        trained = hierarchy.train().infer(x, make_rng("q")).kl
        assert not torch.equal(trained, expected)
        assert torch.equal(trained, hierarchy.infer(x, make_rng("q")).kl)  # all random numbers come from the rng


def test_dropout_preserves_the_mean_of_features():
    hierarchy = residual(dropout=0.3)
    kept = hierarchy._drop(torch.ones(200_000), make_rng("drop"))
    assert abs(kept.mean() - 1) < 5 * (0.3 / 0.7 / 200_000) ** 0.5
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.7])


def test_all_parameters_are_set_and_all_learn():
    first, again = residual(), residual()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    first = first.float()
    x = torch.rand(4, 1, 4, 4, generator=make_rng("x")) * 2 - 1
    posterior = first.infer(x, make_rng("q"))
    (first.decode(posterior.top).log_prob(x).sum() - posterior.kl.sum()).backward()
    silent = [name for name, p in first.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_registered_under_its_name():
    block = spec("backbone", name="residual", layers_per_scale=[2], latent_channels=3)
    assert build("backbone", block, (1, 8, 8)).latent_shapes == ((3,), (3,))


LOGISTIC = {"name": "logistic-mixture", "levels": 256, "components": 3}
IMAGES = {
    "28": ((1, 28, 28), {"layers_per_scale": [1, 2], "resolutions": [14, 7], "channels": [6, 8]}),
    "32": ((3, 32, 32), {"layers_per_scale": [1, 1, 1], "resolutions": [16, 8, 4], "channels": [6, 8, 8]}),
    "64": ((3, 64, 64), {"layers_per_scale": [1, 1, 1], "resolutions": [32, 16, 1], "channels": [4, 6, 8]}),
}


@pytest.mark.parametrize(
    "likelihood",
    [{"name": "gaussian"}, LOGISTIC, {"name": "gaussian", "learned": True}],
    ids=["fixed", "logistic", "learned"],
)
@pytest.mark.parametrize("size", IMAGES)
def test_images_of_the_studies(size, likelihood):
    """Several scales at 28 to 64 pixels: shapes, inverse, and gradients of the bound that are neither 0 nor wild."""
    shape, block = IMAGES[size]
    own = spec("backbone", name="residual", **block, latent_channels=2, inference_hidden=4, likelihood=likelihood)
    hierarchy = build("backbone", own, shape)
    hierarchy.initialise(make_rng("images", size))
    x = to_pixels(torch.randint(256, (2, *shape), generator=make_rng("x")), 256)
    posterior = hierarchy.infer(x, make_rng("q"))
    distribution = hierarchy.decode(posterior.top)
    loss = (posterior.kl.sum(1) - distribution.log_prob(x)).mean()
    loss.backward()
    assert distribution.mean.shape == (2, *shape)
    assert distribution.mean.abs().max() <= 1
    sizes = torch.stack([p.grad.square().mean().sqrt() for p in hierarchy.parameters()])
    assert (sizes > 0).all()
    assert sizes.max() < 10 * x[0].numel()  # a few nats per pixel at most, as a learned σ has it, which moves them all
    z = posterior.top.z
    torch.testing.assert_close(flatten(hierarchy.whiten(z)), flatten(posterior.eps), rtol=0, atol=1e-4)
    terms = hierarchy.condition(z)[1]
    assert terms.shape == (2, hierarchy.layers)
    assert hierarchy.levels == (256 if likelihood == LOGISTIC else None)


@pytest.mark.parametrize(("shape", "resolutions"), [((1, 8, 8), [3]), ((1, 8, 6), [2]), ((30,), [2]), ((1, 4, 4), [8])])
def test_maps_that_do_not_tile_the_data_are_refused_in_one_sentence(shape, resolutions):
    with pytest.raises(JebmError, match=r"backbone\.resolutions: maps of size \d do not tile"):
        ResidualHierarchy(shape, layers_per_scale=[2], latent_channels=1, channels=[4], resolutions=resolutions)


@pytest.mark.parametrize(("shape", "classes"), [((30,), 2), ((1, 8, 8), 0)])
def test_classifier_of_what_is_no_labelled_image_is_refused(shape, classes):
    with pytest.raises(JebmError, match=r"features\.name: 'classifier' needs labelled images"):
        Classifier(shape, classes)
