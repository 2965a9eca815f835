"""The deep hierarchy: densities, path, chains, energies, checkpointing."""

import pytest
import torch
from oracles import spec
from torch.distributions import Normal
from torch.nn.functional import pad

from jebm.config.components import build
from jebm.errors import JebmError
from jebm.models.backbones.base import flatten, normal_log_prob, standard_normal_log_prob
from jebm.models.backbones.nvae.architectures import ARCHITECTURES
from jebm.models.backbones.nvae.convolutions import MaskedConvolution
from jebm.models.backbones.nvae.flows import Flow
from jebm.models.backbones.nvae.hierarchy import NvaeHierarchy
from jebm.models.batch_norm import recalibrate
from jebm.models.priors.base import build_prior
from jebm.runtime.random import make_rng
from jebm.sampling.run import run_chain
from jebm.sampling.target import Target

TINY = {
    "latent_channels": 1, "encoder_channels": 4, "decoder_channels": 4, "preprocess_cells": 1, "postprocess_cells": 1,
    "encoder_cells": 1, "decoder_cells": 1,
    "likelihood": {"name": "nvae-logistic-mixture", "levels": 17, "components": 2},
}  # fmt: skip


def nvae(shape=(1, 8, 8), layers_per_scale=(2, 1), **settings):
    hierarchy = NvaeHierarchy(shape, layers_per_scale=list(layers_per_scale), **(TINY | settings))
    hierarchy.initialise(make_rng("nvae", "weights"))
    return hierarchy.eval()


def lively(**settings):
    """Priors that depend on what is above them, and batch statistics that are not those of the start: weights as they
    are drawn leave both almost flat."""
    hierarchy, rng = nvae(**settings).double().requires_grad_(False), make_rng("lively")
    for group in hierarchy.groups:
        if group.prior is not None:
            group.prior.log_gain += 1.5
            group.take.log_gain += 0.5
    for module in hierarchy.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=rng)
            module.running_var.uniform_(0.7, 1.5, generator=rng)
    return hierarchy


def images(count=3, shape=(1, 8, 8), dtype=torch.float32):
    return torch.rand(count, *shape, generator=make_rng("images"), dtype=dtype) * 2 - 1


def noise(hierarchy, count=3):
    return torch.randn(count, hierarchy.dimensions, generator=make_rng("eps"), dtype=hierarchy.start.dtype)


SHAPES = [
    {},
    {"layers_per_scale": (1, 2)},
    {"layers_per_scale": (1,)},
    {"padding": 4, "layers_per_scale": (1, 1, 1)},
    {"blocks": 0},
]


@pytest.mark.parametrize("settings", SHAPES, ids=str)
@pytest.mark.parametrize("likelihood", ["bernoulli", "heteroscedastic-gaussian", "nvae-logistic-mixture", "gaussian"])
def test_passes_agree_and_shapes_are_those_stated(settings, likelihood):
    hierarchy = lively(likelihood={"name": likelihood}, **settings)
    top = hierarchy.top_down_flat(noise(hierarchy))
    again, terms = hierarchy.condition(top.z)
    assert [tuple(z.shape[1:]) for z in top.z] == list(hierarchy.latent_shapes)
    assert [tuple(h.shape[1:]) for h in top.context] == list(hierarchy.context_shapes)
    torch.testing.assert_close(flatten(again.context), flatten(top.context))
    assert terms.shape == (3, hierarchy.layers)
    x = hierarchy.decode(top).mean
    assert x.shape == (3, *hierarchy.image_shape)
    assert hierarchy.decode(top).log_prob(x).shape == (3,)
    assert hierarchy.decode(top).sample(make_rng("draw")).shape == x.shape


@pytest.mark.parametrize("padding", [0, 4])
def test_pixels_are_those_of_the_likelihood_without_the_padding(padding):
    own = {**TINY, "name": "nvae", "layers_per_scale": [2, 1], "padding": padding}
    block = spec("backbone", **own | {"likelihood": {"name": "gaussian", "sigma": 0.3}})
    hierarchy = build("backbone", block, (1, 8, 8)).requires_grad_(False)
    hierarchy.initialise(make_rng("nvae", "likelihood"))
    top, x = hierarchy.eval().top_down_flat(noise(hierarchy)), images()
    mean = torch.tanh(pad(hierarchy.maps(top), [-padding] * 4))
    torch.testing.assert_close(hierarchy.decode(top).mean, mean)
    torch.testing.assert_close(hierarchy.decode(top).log_prob(x), Normal(mean, 0.3).log_prob(x).flatten(1).sum(1))
    assert hierarchy.levels is None
    mixture = spec("backbone", **own | {"likelihood": {"name": "logistic-mixture", "levels": 17, "components": 2}})
    assert build("backbone", mixture, (1, 8, 8)).levels == 17


def test_change_of_variables_cancels_the_jacobian():
    hierarchy = lively()
    eps = noise(hierarchy, 2)
    jacobians = [
        torch.autograd.functional.jacobian(lambda e: flatten(hierarchy.top_down_flat(e[None]).z)[0], row) for row in eps
    ]
    log_det = torch.stack([torch.linalg.slogdet(jacobian).logabsdet for jacobian in jacobians])
    assert (log_det[0] - log_det[1]).abs() > 0.01  # so that the test can fail
    expected = standard_normal_log_prob(eps) - log_det
    torch.testing.assert_close(hierarchy.log_prob(hierarchy.top_down_flat(eps).z), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("flows", [0, 1])
def test_infer_reports_the_density_of_its_own_whitened_draw(flows):
    hierarchy = lively(flows=flows, latent_channels=2)
    x = images(dtype=torch.float64)
    posterior = hierarchy.infer(x, make_rng("q"))
    top = hierarchy.top_down(posterior.eps)
    torch.testing.assert_close(flatten(posterior.top.z), flatten(top.z))
    torch.testing.assert_close(flatten(posterior.top.context), flatten(top.context))
    assert posterior.log_q.shape == posterior.kl.shape == (3, hierarchy.layers)
    log_p = torch.stack([standard_normal_log_prob(layer) for layer in posterior.eps], 1)
    single = posterior.log_q - log_p
    if flows:
        torch.testing.assert_close(posterior.kl, single)
    else:
        draws = torch.stack([_single_draw(hierarchy, x, i) for i in range(200)])
        # The top layer's KL is the same in all draws, and the mean of log q − log p.
        error = (draws.mean(0) - posterior.kl[:, -1]).abs()
        assert (error < 5 * draws.std(0) / 200**0.5).all()
        assert not torch.allclose(posterior.kl, single)


def _single_draw(hierarchy, x, number):
    posterior = hierarchy.infer(x, make_rng("single", number))
    return posterior.log_q[:, -1] - standard_normal_log_prob(posterior.eps[-1])


def test_density_of_eps_with_flows_by_its_jacobian():
    """log q(ε) = log N(noise) − log |∂ε / ∂noise|, layer by layer, the flows included."""
    hierarchy = lively(flows=2, latent_channels=2)
    group, rng = hierarchy.groups[0], make_rng("jacobian")
    features = torch.randn(1, 8, 4, 4, generator=rng, dtype=torch.float64)
    path = torch.randn(1, 8, 4, 4, generator=rng, dtype=torch.float64)
    posterior, prior = group.infer(features, path)

    def eps(draw):
        return prior.whiten(group.flow(posterior.transform(draw.reshape(1, 2, 4, 4)))).flatten()

    draw = torch.randn(32, generator=rng, dtype=torch.float64)
    log_det = torch.linalg.slogdet(torch.autograd.functional.jacobian(eps, draw)).logabsdet
    z = posterior.transform(draw.reshape(1, 2, 4, 4))
    log_q = (posterior.log_prob(z) + torch.log(prior.sigma)).sum()
    torch.testing.assert_close(log_q, standard_normal_log_prob(draw[None])[0] - log_det)
    assert (group.flow(z) - z).abs().max() > 1e-3


def test_flow_is_autoregressive_in_both_directions():
    flow = Flow(3).double()
    for shift, reverse in ((flow.forwards, ()), (flow.backwards, (0, 1))):
        for module in shift.modules():
            if isinstance(module, MaskedConvolution):
                torch.nn.init.normal_(module.weight)
                torch.nn.init.zeros_(module.log_gain)
        torch.nn.init.zeros_(shift.last.bias)

        def run(flat, shift=shift):
            z = flat.reshape(1, 5, 5, 3).permute(0, 3, 1, 2)  # raster order, channels innermost
            return shift(z).permute(0, 2, 3, 1).flatten()

        start = torch.randn(75, generator=make_rng("flow"), dtype=torch.float64)
        blocks = (torch.autograd.functional.jacobian(run, start) - torch.eye(75)).reshape(25, 3, 25, 3)
        places = blocks.abs().amax((1, 3)).flip(reverse)
        assert torch.equal(places, places.tril())
        assert places.tril(-1).abs().sum() > 0
        within = torch.stack([blocks[i, :, i, :] for i in range(25)])  # the order of channels is never mirrored
        assert torch.equal(within, within.tril(-1))
        assert within.abs().sum() > 0


@pytest.mark.parametrize("kind", ["layerwise", "context"])
def test_zero_energies_keep_eps_standard_normal_and_others_move_it(kind):
    """A whitened chain as in stage 2: pcnl leaves N(0, I) alone exactly where the energy is 0."""
    hierarchy = lively(layers_per_scale=(1, 1), likelihood={"name": "heteroscedastic-gaussian"}).float()
    prior = build_prior(spec("prior", name="ebm", energy={"name": kind, "hidden": 4, "depth": 1}), hierarchy)
    prior.initialise(make_rng("energy"))
    prior.requires_grad_(False)
    kernel = build("kernel", spec("kernel", name="pcnl", step_size=0.5))
    start = torch.randn(400, hierarchy.dimensions, generator=make_rng("start"))
    ends = []
    for bias in (0.0, 3.0):
        for net in prior.energy.nets.values():
            net[-1].weight.fill_(bias)
        assert bool(prior.tilt(start).abs().max() > 0) == bool(bias)
        chain = run_chain(kernel, Target(prior.tilt), start, 5, make_rng("chain"))
        assert chain.finite.all()
        ends.append(chain.x)
    mean, variance, fourth = ends[0].mean(), ends[0].var(), ends[0].pow(4).mean()
    count = ends[0].numel()
    assert abs(mean) < 5 / count**0.5
    assert abs(variance - 1) < 5 * (2 / count) ** 0.5
    assert abs(fourth - 3) < 5 * (96 / count) ** 0.5
    assert (ends[1] - ends[0]).abs().max() > 0.01
    assert torch.equal(start, torch.randn(start.shape, generator=make_rng("start")))


def test_biased_density_drifts_where_the_right_one_does_not():
    """f = 0: adding log p(T(ε)) in place of log N(ε; 0, I) counts −Σ log σ too, and pulls ε to small σ."""
    hierarchy = lively(layers_per_scale=(1, 1), likelihood={"name": "heteroscedastic-gaussian"}).float()
    kernel = build("kernel", spec("kernel", name="langevin", step_size=0.3))
    start = torch.randn(200, hierarchy.dimensions, generator=make_rng("start"))

    def log_sigma(eps):
        with torch.no_grad():
            priors = hierarchy.conditionals(hierarchy.top_down_flat(eps).z)[1]
        return torch.log(priors[0].sigma).mean()

    def biased(eps):
        return hierarchy.log_prob(hierarchy.top_down_flat(eps).z)

    right = run_chain(kernel, Target(lambda eps: eps.new_zeros(len(eps))), start, 40, make_rng("a"))
    wrong = run_chain(kernel, Target(biased, gaussian_base=False), start, 40, make_rng("a"))
    drift = log_sigma(wrong.x) - log_sigma(start)
    assert drift < -0.02
    assert abs(log_sigma(right.x) - log_sigma(start)) < abs(drift) / 5


@pytest.mark.parametrize("training", [False, True])
def test_checkpointing_gives_the_same_gradients_and_counts_statistics_once(training):
    results = []
    for checkpointing in (False, True):
        hierarchy = nvae(flows=1, checkpointing=checkpointing, layers_per_scale=(2, 1)).train(training)
        eps = noise(hierarchy).requires_grad_(True)
        posterior = hierarchy.infer(images(), make_rng("q"))
        loss = posterior.kl.sum() - hierarchy.decode(posterior.top).log_prob(images()).sum()
        loss = loss + hierarchy.decode(hierarchy.top_down_flat(eps)).mean.square().sum()
        loss.backward()
        gradients = [p.grad for p in hierarchy.parameters() if p.grad is not None]
        results.append((loss, eps.grad, gradients, dict(hierarchy.named_buffers())))
    (loss, gradient, gradients, buffers), (again, gradient_again, gradients_again, buffers_again) = results
    assert torch.equal(loss, again)
    assert torch.equal(gradient, gradient_again)
    assert all(torch.equal(a, b) for a, b in zip(gradients, gradients_again, strict=True))
    assert all(torch.equal(buffers[name], buffers_again[name]) for name in buffers)


def test_checkpointing_stores_less_for_the_gradient():
    """Bytes that autograd stores for the backward pass, in a frozen hierarchy as in a chain."""
    kept = []
    for checkpointing in (False, True):
        hierarchy = nvae(checkpointing=checkpointing, layers_per_scale=(2, 2), decoder_cells=2).requires_grad_(False)
        eps, total = noise(hierarchy).requires_grad_(True), []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, total=total: total.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            value = hierarchy.decode(hierarchy.top_down_flat(eps)).mean.sum()
        value.backward()
        kept.append(sum(total))
    assert kept[1] < 0.4 * kept[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_runs_and_all_parameters_learn(architecture):
    """``res_elu`` too, whose published code overwrites its weights at the first pass; here it does not."""
    settings = {"architecture": architecture, "encoder_channels": 8, "decoder_channels": 8, "flows": 1}
    hierarchy = nvae(layers_per_scale=(1, 1), latent_channels=2, **settings).train()
    before = {name: parameter.clone() for name, parameter in hierarchy.named_parameters()}
    posterior = hierarchy.infer(images(), make_rng("q"))
    (posterior.kl.sum() - hierarchy.decode(posterior.top).log_prob(images()).sum()).backward()
    silent = [name for name, p in hierarchy.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A shift of all means before batch norm changes nothing, and rounding alone decides about its gradient.
    assert [name for name in silent if not name.endswith("bias")] == []
    assert all(torch.equal(before[name], parameter) for name, parameter in hierarchy.named_parameters())


def test_initialisation_depends_on_its_rng_only():
    def weights(seed):
        torch.manual_seed(seed)
        return nvae(flows=1).state_dict()

    first, again = weights(1), weights(2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert all(torch.isfinite(value).all() for value in first.values())
    state = torch.random.get_rng_state()
    nvae()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_generative_and_inference_parameters_are_disjoint():
    hierarchy = nvae(flows=1)
    count = len(hierarchy.inference_parameters()) + len(hierarchy.generative_parameters())
    assert count == len(list(hierarchy.parameters()))
    top = hierarchy.top_down_flat(noise(hierarchy))
    hierarchy.decode(top).log_prob(images()).sum().backward()
    assert all(p.grad is None for p in hierarchy.inference_parameters())
    assert all(p.grad is not None for p in hierarchy.generative_parameters())


def test_padding_is_seen_by_the_network_and_has_no_likelihood():
    padded, plain = lively(padding=4, layers_per_scale=(1, 1)), lively(shape=(1, 16, 16), layers_per_scale=(1, 1))
    plain.load_state_dict(padded.state_dict())
    x = images(dtype=torch.float64)
    wide = torch.nn.functional.pad(x, [4] * 4, value=-1.0)
    posterior, same = padded.infer(x, make_rng("q")), plain.infer(wide, make_rng("q"))
    torch.testing.assert_close(posterior.kl, same.kl)
    log_prob = plain.decode(same.top).element_log_prob(wide)[:, 4:-4, 4:-4].sum((1, 2))
    torch.testing.assert_close(padded.decode(posterior.top).log_prob(x), log_prob)


def test_recalibration_changes_only_statistics_of_the_decoder_and_repeats():
    results = []
    for _ in range(2):
        hierarchy = nvae()
        before = {key: value.clone() for key, value in hierarchy.state_dict().items()}
        recalibrate(hierarchy, 3, 4, 0.7, make_rng("recalibrate"))
        results.append(hierarchy.state_dict())
        assert not hierarchy.training
        moved = {key for key, value in before.items() if not torch.equal(value, results[-1][key])}
        assert moved
        assert all("running" in key or "tracked" in key for key in moved)
        assert all(".decoder." in key or key.startswith("postprocess.") for key in moved)
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])


def test_statistics_follow_by_a_twentieth_a_pass():
    hierarchy = lively()
    norm = hierarchy.postprocess[0].operations[0].norm
    seen, before = [], (norm.running_mean.clone(), norm.running_var.clone())
    hook = norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    recalibrate(hierarchy, 1, 4, 1.0, make_rng("recalibrate"))
    hook.remove()
    variance, mean = torch.var_mean(seen[0], (0, 2, 3))
    torch.testing.assert_close(norm.running_mean, 0.95 * before[0] + 0.05 * mean)
    torch.testing.assert_close(norm.running_var, 0.95 * before[1] + 0.05 * variance)


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((1, 8, 8), {"layers_per_scale": [1, 1, 1, 1]},
         r"backbone.layers_per_scale: 4 scales after 1 halvings .* multiple of 16, not 8"),
        ((3, 28, 28), {"layers_per_scale": [2, 2, 2]}, r"multiple of 8, not 28; give fewer"),
        ((3, 28, 28), {"layers_per_scale": [2] * 6, "padding": 2}, r"multiple of 64, not 28 \(with padding 32\)"),
        ((1, 8, 6), {"layers_per_scale": [1]},
         r"backbone\.name: 'nvae' needs square images, not data of shape \[1, 8, 6\]"),
        ((30,), {"layers_per_scale": [1]}, "needs square images"),
        ((2, 8, 8), {"layers_per_scale": [1]},
         r"likelihood\.name: 'nvae-logistic-mixture' needs images of 1 or 3 colours, not data of shape \[2, 8, 8\]"),
        ((1, 8, 8), {"layers_per_scale": [1], "encoder_channels": 8},
         r"decoder_channels: is 4, encoder_channels 8; a hierarchy"),
        ((1, 8, 8), {"layers_per_scale": [1], "architecture": "mbconv_den",
                      "encoder_channels": 3, "decoder_channels": 3},
         r"backbone\.architecture: convolutions in 8 groups can't divide 9"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_sentence(shape, settings, message):
    with pytest.raises(JebmError, match=message):
        NvaeHierarchy(shape, **(TINY | settings))


def test_registered_under_its_name():
    block = spec("backbone", name="nvae", layers_per_scale=[2], latent_channels=3)
    with torch.device("meta"):
        assert build("backbone", block, (3, 8, 8)).latent_shapes == ((3, 4, 4), (3, 4, 4))


def test_conditional_is_what_the_density_is_made_of():
    hierarchy = lively()
    top, priors = hierarchy.conditionals(hierarchy.top_down_flat(noise(hierarchy)).z)
    terms = hierarchy.condition(top.z)[1]
    for layer, prior in enumerate(priors):
        expected = normal_log_prob(top.z[layer], prior.mean, torch.log(prior.sigma).expand_as(prior.mean))
        torch.testing.assert_close(terms[:, layer], expected)
    assert (priors[-1].sigma == 1.01).all()
    assert (priors[-1].mean == 0).all()


def test_mixed_precision_stays_near_single_and_keeps_densities_in_single():
    hierarchy = nvae(flows=1, latent_channels=2, likelihood={"name": "heteroscedastic-gaussian"}).train()
    x, results = images(), []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            posterior = hierarchy.infer(x, make_rng("q"))
            log_px = hierarchy.decode(posterior.top).log_prob(x)
        assert posterior.kl.dtype == posterior.log_q.dtype == log_px.dtype == posterior.eps[0].dtype == torch.float32
        (posterior.kl.sum() - log_px.sum()).backward()
        results.append(torch.cat([posterior.kl.sum(1), log_px]))
    torch.testing.assert_close(results[0], results[1], rtol=0.05, atol=1.0)
    assert not torch.equal(results[0], results[1])
    assert all(torch.isfinite(p.grad).all() for p in hierarchy.parameters())


RECORDED = {
    "kl": [2861.4768731063, 31.328575470599553, 6.023997758281441],
    "log_q": [-533.5019205614929, -509.7779952706404, -128.0907352465462],
    "log_px": -15468.648898964497,
    "log_p": [-217.60542082336084, -467.724130476819, -97.11210858160581],
    "mean": 85.43789889902963,
}


def test_whole_passes_are_those_that_agreed_with_published_code():
    """Recorded where the code agreed with the full file to 4e-12 (see test_oracle.py): the wiring of all modules.

    The weights are drawn in single precision, whose rounding depends on the processor.
    """
    hierarchy = lively(
        shape=(3, 16, 16),
        layers_per_scale=(2, 1),
        flows=1,
        latent_channels=2,
        likelihood={"name": "nvae-logistic-mixture", "components": 2},
    )
    x = images(shape=(3, 16, 16), dtype=torch.float64)
    posterior = hierarchy.infer(x, make_rng("recorded"))
    top = hierarchy.top_down_flat(noise(hierarchy, 2))
    found = {
        "kl": posterior.kl.sum(0).tolist(),
        "log_q": posterior.log_q.sum(0).tolist(),
        "log_px": float(hierarchy.decode(posterior.top).log_prob(x).sum()),
        "log_p": hierarchy.condition(top.z)[1].sum(0).tolist(),
        "mean": float(hierarchy.decode(top).mean.square().sum()),
    }
    for name, value in RECORDED.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name
