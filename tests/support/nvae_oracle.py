"""The full reference outputs of published code, compared quantity by quantity; for tests/models/nvae.

The file is no part of the repository. ``JEBM_NVAE_ORACLE`` says where it is.
"""

import torch
from torch.nn.functional import pad

from jebm.models.backbones.nvae.cells import Cell
from jebm.models.backbones.nvae.flows import Flow
from jebm.models.backbones.nvae.gaussians import Normal
from jebm.models.backbones.nvae.hierarchy import NvaeHierarchy
from jebm.models.batch_norm import update_statistics
from jebm.models.checkpoints.nvae_keys import ALIAS, key_map, read_settings
from jebm.models.likelihoods.heteroscedastic_gaussian import GaussianPixels
from jebm.models.likelihoods.nvae_logistic_mixture import MixturePixels
from jebm.training.kl_balance import by_scale, layer_sizes
from jebm.training.regularisation import SpectralPenalty, batch_norm_gains, spectral_norms


def to_ours(images):
    """[0, 1] → [−1, 1]."""
    return 2 * images - 1


def build(case):
    """The case's hierarchy with its weights, float64, in evaluation mode.

    Images of a case come padded, as the published network sees them.
    """
    settings = read_settings(case["args"])
    padding = settings.backbone["padding"]
    colours, size, _ = settings.image_shape
    hierarchy = NvaeHierarchy((colours, *[size + 2 * padding] * 2), **(settings.backbone | {"padding": 0}))
    keys = key_map(hierarchy)
    assert set(keys) == set(case["state_dict"])
    hierarchy.load_state_dict({own: case["state_dict"][published] for published, own in keys.items()})
    return hierarchy.double().eval()


def replay(recorded):
    """Recorded noise, coarsest first, as the passes ask for it."""
    rest = iter(recorded)
    return lambda like: next(rest).to(like)


class Errors(dict):
    """Quantity → largest absolute difference, and relative to the size of the quantity where that exceeds 1."""

    def add(self, name, ours, theirs):
        if isinstance(theirs, list | tuple):
            assert len(ours) == len(theirs)
            for own, their in zip(ours, theirs, strict=True):
                self.add(name, own, their)
            return
        ours, theirs = torch.as_tensor(ours).detach().double(), torch.as_tensor(theirs).double()
        assert ours.shape == theirs.shape, (name, ours.shape, theirs.shape)
        error = float((ours - theirs).abs().max()) if theirs.numel() else 0.0
        self[name] = max(self.get(name, 0.0), error)


def sums(elements):
    return elements.flatten(1).sum(1)


def check_float32(case, hierarchy):
    """In single precision: as far as rounding through the whole depth allows."""
    want = case["eval_float32"]
    with torch.no_grad():
        top, draws = hierarchy.draw_posterior(to_ours(case["x_bits"]), replay(case["eps"]))
        torch.testing.assert_close(hierarchy.maps(top), want["logits"], rtol=1e-4, atol=1e-4)
    for draw, z, kl in zip(draws[::-1], want["z_list"], want["kl_all"], strict=True):
        torch.testing.assert_close(draw.z, z, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(sums(draw.kl(hierarchy.has_flows)), kl, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(sum(sums(d.log_q()) for d in draws), want["log_q"], rtol=1e-4, atol=0.1)
    torch.testing.assert_close(sum(sums(d.prior.log_prob(d.z)) for d in draws), want["log_p"], rtol=1e-4, atol=0.1)


def central(case, elements):
    """What the loss counts: without the padding of binary images."""
    margin = read_settings(case["args"]).backbone["padding"]
    return pad(elements, [-margin] * 4) if margin else elements


def check_case(case):
    """All that is recorded for one case."""
    errors = Errors()
    check_eval(case, build(case), errors)
    check_float32(case, build(case).float())
    check_prior(case, build(case), errors)
    check_recalibration(case, build(case), errors)
    if "train" in case:
        check_train(case, build(case), errors)
    return errors


def check_eval(case, hierarchy, errors):
    want, flows = case["eval"], hierarchy.has_flows
    activations, hooks = {}, []
    published = {own: name for name, own in key_map(hierarchy).items() if not name.endswith(ALIAS)}
    for name, output in _activations(hierarchy, published).items():
        hooks.append(output(activations, name))
    x = to_ours(case["x_bits"].double())
    with torch.no_grad():
        top, draws = hierarchy.draw_posterior(x, replay(case["eps"]))
        maps = hierarchy.maps(top)
    for hook in hooks:
        hook.remove()
    downwards = draws[::-1]
    errors.add("logits", maps, want["logits"])
    errors.add("q_mu", [d.posterior.mean for d in downwards], want["q_mu"])
    errors.add("q_sigma", [d.posterior.sigma for d in downwards], want["q_sigma"])
    errors.add("p_mu", [d.prior.mean for d in downwards], want["p_mu"])
    errors.add("p_sigma", [d.prior.sigma for d in downwards], want["p_sigma"])
    errors.add("z_preflow", [d.before for d in downwards], want["z_preflow"])
    errors.add("z_list", [d.z for d in downwards], want["z_list"])
    errors.add("kl_all", [sums(d.kl(flows)) for d in downwards], want["kl_all"])
    errors.add("kl_diag", [d.kl(flows).sum((2, 3)).mean(0) for d in downwards], want["kl_diag"])
    errors.add("log_q", sum(sums(d.log_q()) for d in draws), want["log_q"])
    errors.add("log_p", sum(sums(d.prior.log_prob(d.z)) for d in draws), want["log_p"])
    errors.add("log_p by condition", hierarchy.log_prob(top.z), want["log_p"])
    recon = -sums(central(case, hierarchy.decode(top).element_log_prob(x)))
    errors.add("nelbo", recon + sum(sums(d.kl(flows)) for d in draws), want["nelbo"])
    weight = -recon + sum(sums(d.prior.log_prob(d.z) - d.log_q()) for d in draws)
    errors.add("log_iw", weight, want["log_iw"])
    for name, value in want.get("activations", {}).items():
        errors.add(f"activation {name}", activations[name], value)
    # The interface, on ε: the same numbers.
    posterior = hierarchy.whitened(top, draws)
    errors.add("kl of infer", list(posterior.kl.flip(1).unbind(1)), want["kl_all"])
    jacobian = sum(sums(torch.log(d.prior.sigma)) for d in draws)
    errors.add("log_q of infer", posterior.log_q.sum(1) - jacobian, want["log_q"])
    errors.add("z of eps", list(hierarchy.transform(posterior.eps)[::-1]), want["z_list"])
    check_decoder(case, hierarchy.decode(top), x, errors)


def _activations(hierarchy, published):
    """Published module name → what records its output."""

    def output(module):
        return lambda store, name: module.register_forward_hook(lambda _m, _i, out: store.__setitem__(name, out))

    names, groups = {}, list(hierarchy.groups)
    owners = {name: module for name, module in hierarchy.named_modules() if name}
    for own, module in owners.items():
        inside = [published[key] for key in published if key.startswith(f"{own}.")]
        if isinstance(module, Cell | Flow):
            names[".".join(inside[0].split(".")[:2])] = output(module)
    names["stem"], names["image_conditional"] = output(hierarchy.stem), output(hierarchy.output)
    for k, group in enumerate(reversed(groups)):
        names[f"enc_sampler.{k}"] = output(group.posterior)
        if group.prior is not None:
            names[f"dec_sampler.{k - 1}"] = output(group.prior)
        place = published[f"{own_name(hierarchy, group.take)}.weight"].split(".")
        names[".".join(place[:2])] = output(group.take)
        if group.merge is not None:
            place = ".".join(published[f"{own_name(hierarchy, group.merge)}.weight"].split(".")[:2])
            names[place] = _before(group.posterior)
    names["enc0"] = _before(groups[-1].posterior)
    return names


def _before(module):
    """Records what goes into a module."""
    return lambda store, name: module.register_forward_pre_hook(lambda _m, args: store.__setitem__(name, args[0]))


def own_name(hierarchy, wanted):
    return next(name for name, module in hierarchy.named_modules() if module is wanted)


def check_decoder(case, pixels, x, errors):
    want = case["decoder"]
    log_prob = pixels.element_log_prob(x)
    errors.add("decoder log_prob", log_prob, want["log_prob"])
    errors.add("decoder recon_loss", -sums(central(case, log_prob)), want["recon_loss"])
    if "mean" in want:
        errors.add("decoder mean", (pixels.mean + 1) / 2, want["mean"])
    for t in (1.0, 0.7):
        sample = want.get(f"sample_t{t}")
        if sample and "u_gumbel" in sample:
            drawn = pixels.draw_from(sample["u_gumbel"].double(), sample["u_logistic"].double(), t)
            errors.add(f"decoder sample {t}", (drawn + 1) / 2, sample["x"])


@torch.no_grad()
def check_prior(case, hierarchy, errors):
    eps = tuple(layer.double() for layer in case["prior"]["eps"][::-1])
    for t in (1.0, 0.7):
        want = case["prior"][f"t{t}"]
        top = hierarchy.top_down(tuple(t * layer for layer in eps))
        again, priors = hierarchy.conditionals(top.z)
        cooled = [Normal(prior.mean, t * prior.sigma) for prior in priors][::-1]
        errors.add(f"prior {t} logits", hierarchy.maps(top), want["logits"])
        errors.add(f"prior {t} logits again", hierarchy.maps(again), want["logits"])
        errors.add(f"prior {t} z", list(top.z[::-1]), want["z_list"])
        errors.add(f"prior {t} mu", [normal.mean for normal in cooled], want["mu"])
        errors.add(f"prior {t} sigma", [normal.sigma for normal in cooled], want["sigma"])
        log_p = [sums(normal.log_prob(z)) for normal, z in zip(cooled, top.z[::-1], strict=True)]
        errors.add(f"prior {t} log_p", log_p, want["log_p_per_group"])
        errors.add(f"prior {t} log_p total", sum(log_p), want["log_p_total"])
        if t == 1.0:
            errors.add("prior by condition", list(hierarchy.condition(top.z)[1].flip(1).unbind(1)), log_p)


@torch.no_grad()
def check_recalibration(case, hierarchy, errors):
    want = case["bn_recalibration"]
    t, before = want["temperature"], {k: v.clone() for k, v in hierarchy.state_dict().items()}
    update_statistics(hierarchy, (tuple(t * e.double() for e in eps[::-1]) for eps in want["eps_per_iteration"]))
    keys, state = key_map(hierarchy), hierarchy.state_dict()
    moved = {name for name, own in keys.items() if not torch.equal(before[own], state[own])}
    assert moved == set(want["changed_buffers"])
    for name, value in want["changed_buffers"].items():
        errors.add("recalibrated buffers", state[keys[name]], value)
    eps = tuple(t * layer.double() for layer in case["prior"]["eps"][::-1])
    errors.add("recalibrated logits", hierarchy.maps(hierarchy.top_down(eps)), want["logits_t0_7_after"])


def check_train(case, hierarchy, errors):
    want, flows = case["train"], hierarchy.has_flows
    hierarchy.train()
    x = to_ours(case["x_bits"].double())
    top, draws = hierarchy.draw_posterior(x, replay(case["eps"]))
    maps = hierarchy.maps(top)
    kl = torch.stack([sums(draw.kl(flows)) for draw in draws], 1)
    recon = -sums(central(case, hierarchy.likelihood(maps).element_log_prob(x)))
    factors = layer_sizes(hierarchy.latent_shapes)
    gamma = by_scale(kl.abs().mean(0), factors)
    balanced = want["kl_coeff"] * (kl * gamma).sum(1)
    errors.add("train logits", maps, want["logits"])
    errors.add("train kl", list(kl.flip(1).unbind(1)), want["kl_all"])
    errors.add("train alpha", factors.flip(0), want["alpha"])
    errors.add("train kl_coeffs", gamma.flip(0), want["kl_coeffs"])
    errors.add("train kl_vals", kl.mean(0).flip(0), want["kl_vals"])
    errors.add("train balanced_kl", balanced, want["balanced_kl"])
    errors.add("train recon", recon, want["recon"])
    errors.add("train bn_loss", batch_norm_gains(hierarchy), want["bn_loss"])
    spectral = spectral_norms(hierarchy)
    errors.add("train spectral exact", spectral, want["spectral_loss_exact"])
    loss = (recon + balanced).mean()
    loss = loss + want["lam"] * (spectral + batch_norm_gains(hierarchy))
    errors.add("train loss", loss, want["loss"])
    loss.backward()
    keys = {name: own for name, own in key_map(hierarchy).items() if not name.endswith(ALIAS)}
    parameters = dict(hierarchy.named_parameters())
    assert {keys[name] for name in want["grad_l2"]} == {n for n, p in parameters.items() if p.grad is not None}
    norms = [float(parameters[keys[name]].grad.norm()) for name in want["grad_l2"]]
    errors.add("train gradient norms", norms, [torch.tensor(v) for v in want["grad_l2"].values()])
    state = hierarchy.state_dict()
    for name, value in want["buffers_after"].items():
        errors.add("train buffers", state[keys[name]], value)
    for name, value in want.get("grads", {}).items():
        errors.add("train gradients", parameters[keys[name]].grad, value)
    penalty = SpectralPenalty(hierarchy, torch.Generator().manual_seed(0))
    estimate = float(penalty().detach())
    exact = float(want["spectral_loss_exact"])
    assert 0.99 * exact < estimate <= exact + 1e-9


def check_stress(stress):
    """The distributions on inputs of a wide range."""
    errors = Errors()
    for name, levels in (("dml_M10_bits8", 256), ("dml_M5_bits5", 32)):
        if name not in stress:
            continue
        case = stress[name]
        pixels = MixturePixels(case["logits"], 3, levels)
        errors.add(f"{name} log_prob", pixels.element_log_prob(to_ours(case["x"])), case["log_prob"])
        errors.add(f"{name} mean", (pixels.mean + 1) / 2, case["mean"])
    case = stress["normal"]
    pixels, variant = GaussianPixels(case["logits"], 3), GaussianPixels(case["logits"], 3, min_log_sigma=-2.0)
    x = to_ours(case["x"])
    errors.add("gaussian mean", pixels.mean, case["mu"])
    errors.add("gaussian sigma", pixels.normal.sigma, case["sigma"])
    errors.add("gaussian log_prob", pixels.element_log_prob(x), case["log_prob"])
    errors.add("vaebm log_prob", variant.element_log_prob(x), case["vaebm_variant_log_prob"])
    errors.add("vaebm sigma", variant.for_density.sigma, case["vaebm_variant_sigma_for_log_prob"])
    case = stress["latent"]
    q, p = (Normal.from_raw(case[f"mu{n}"], case[f"log_sigma{n}"]) for n in ("", "2"))
    errors.add("latent mu", q.mean, case["q_mu"])
    errors.add("latent sigma", q.sigma, case["q_sigma"])
    errors.add("latent sigma at 0.6", 0.6 * q.sigma, case["q_sigma_temp06"])
    errors.add("latent kl", q.kl(p), case["kl_q_p"])
    errors.add("latent log_q", q.log_prob(case["mu2"]), case["log_q_at_mu2"])
    return errors
