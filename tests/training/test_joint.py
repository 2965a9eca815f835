"""Joint training's gradients against those of the evidence and the bound in closed form; its runs resume to the bit."""

import os
import signal

import pytest
import torch
from linear_gaussian import evidence_bound, linear_model, log_evidence
from losses import FunctionLoss
from oracles import SIGMAS, joint_prior
from torch import nn

from jebm.config.training import TrainJoint
from jebm.errors import DivergedError, InterruptedRunError
from jebm.models.backbones.base import flatten
from jebm.models.backbones.perceptron import PerceptronHierarchy
from jebm.models.backbones.residual import ResidualHierarchy
from jebm.runtime.random import make_rng
from jebm.sampling.run import ChainResult
from jebm.training import joint
from jebm.training.finite import Divergence
from jebm.training.loop import Trainer
from jebm.training.optimisers import ParameterGroup, joint_groups
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile

IMAGE = torch.tensor([[[[0.9, -1.2, 0.4]]]])
ROWS = torch.zeros(2000, dtype=torch.int64)
EXACT = {"kernel": {"name": "pcnl", "step_size": 0.6, "adjusted": True}, "steps": 60}


def settings(method, **changes):
    posterior = {"posterior_chain": EXACT} if method == "mcmc" else {}
    own = {"steps": 10, "batch_size": 8, "learning_rate": 0.01, "energy_learning_rate": 0.02, "chain": EXACT}
    return TrainJoint(method=method, **(own | posterior | changes))


def gradients(loss_of, model, repeats=12):
    """Mean gradient of −loss over independent repeats of 2,000 chains, and its standard error, by parameter."""
    rows = []
    for repeat in range(repeats):
        model.zero_grad()
        value, _ = loss_of(make_rng("joint gradient", repeat))(5, ROWS)
        value.backward()
        rows.append({name: -p.grad.double() for name, p in model.named_parameters() if p.grad is not None})
    stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return {name: (g.mean(0), g.std(0) / repeats**0.5 + 1e-6) for name, g in stacked.items()}


def exact_gradients(value, model):
    model.zero_grad()
    value.backward()
    return {name: p.grad.double().clone() for name, p in model.named_parameters() if p.grad is not None}


def worst(found, exact, names):
    """The largest deviation of a gradient's entry, in standard errors."""
    return max(float(((found[name][0] - exact[name]) / found[name][1]).abs().max()) for name in names)


def both(hierarchy, prior):
    return nn.ModuleDict({"hierarchy": hierarchy, "prior": prior})


PARTS = {
    "decoder": ["hierarchy.weight", "hierarchy.bias"],
    "inter-layer": ["hierarchy.maps.0", "hierarchy.offsets.0", "hierarchy.log_scales.0"],
    "energy": ["prior.energy.root", "prior.energy.vector"],
    "inference": ["hierarchy.network.weight", "hierarchy.network.offset", "hierarchy.network.log_sd"],
}


def test_closed_forms_by_finite_differences():
    """The yardstick itself: autograd of log p(x) against central differences in an entry of each parameter."""
    hierarchy, prior = linear_model()
    model = both(hierarchy.double(), prior.double())
    exact = exact_gradients(log_evidence(prior, IMAGE)[0], model)
    for name in [name for part in ("decoder", "inter-layer", "energy") for name in PARTS[part]]:
        parameter, values = model.get_parameter(name), []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.view(-1)[0] += step
                values.append(float(log_evidence(prior, IMAGE)[0]))
                parameter.view(-1)[0] -= step
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(exact[name].view(-1)[0]), abs=1e-6), name


@pytest.fixture(scope="module")
def mcmc():
    model = both(*linear_model())
    prior = model["prior"]
    found = gradients(lambda rng: joint.McmcLoss(prior, IMAGE, settings("mcmc"), rng), model)
    return found, exact_gradients(log_evidence(prior, IMAGE)[0], model)


@pytest.mark.parametrize("part", ["decoder", "inter-layer", "energy"])
def test_mcmc_gradient_is_that_of_the_log_evidence(mcmc, part):
    found, exact = mcmc
    assert worst(found, exact, PARTS[part]) < SIGMAS
    zero = {name: torch.zeros_like(gradient) for name, gradient in exact.items()}
    assert worst(found, zero, PARTS[part]) > 3 * SIGMAS  # so that the opposite sign would show


def test_one_term_gradient_of_the_inter_layer_networks_is_wrong(monkeypatch):
    """Without −E[∇ log p_β(z⁻)] the same comparison fails: the error of treating p_β as if it had no normaliser."""
    model = both(*linear_model())
    prior, calls, inner = model["prior"], [], joint.tilted_log_prob

    def one_term(*arguments):
        f, log_p, top = inner(*arguments)
        calls.append(None)
        return f, log_p if len(calls) % 2 else log_p.detach(), top

    monkeypatch.setattr(joint, "tilted_log_prob", one_term)
    found = gradients(lambda rng: joint.McmcLoss(prior, IMAGE, settings("mcmc"), rng), model)
    exact = exact_gradients(log_evidence(prior, IMAGE)[0], model)
    assert worst(found, exact, PARTS["inter-layer"]) > 3 * SIGMAS
    assert worst(found, exact, PARTS["decoder"]) < SIGMAS


def test_mcmc_trains_the_inference_network_by_the_bound(mcmc):
    found, _ = mcmc
    model = both(*linear_model())
    exact = exact_gradients(evidence_bound(model["prior"], IMAGE)[0], model)
    assert worst(found, exact, PARTS["inference"]) < SIGMAS
    assert found["hierarchy.network.weight"][0].abs().max() > 0.1


@pytest.mark.parametrize("part", list(PARTS))
def test_variational_gradient_is_that_of_the_bound(variational, part):
    found, exact = variational
    assert worst(found, exact, PARTS[part]) < SIGMAS
    zero = {name: torch.zeros_like(gradient) for name, gradient in exact.items()}
    assert worst(found, zero, PARTS[part]) > 3 * SIGMAS


@pytest.fixture(scope="module")
def variational():
    model = both(*linear_model())
    prior = model["prior"]
    found = gradients(lambda rng: joint.VariationalLoss(prior, IMAGE, settings("variational"), rng), model)
    return found, exact_gradients(evidence_bound(prior, IMAGE)[0], model)


def test_variational_gradient_without_the_prior_term_is_wrong(monkeypatch):
    """Held-fast T_β in the negative term: then β does not move Z."""
    model = both(*linear_model())
    prior = model["prior"]

    def loss_of(rng):
        inner = joint.VariationalLoss(prior, IMAGE, settings("variational"), rng)

        def loss(step, batch):
            monkeypatch.setattr(prior, "tilt", lambda eps: prior.energy(_detached(prior.hierarchy.top_down_flat(eps))))
            try:
                return inner(step, batch)
            finally:
                monkeypatch.undo()

        return loss

    def _detached(top):
        needs = any(p.requires_grad for p in prior.energy.parameters())
        return type(top)(*(tuple(part.detach() for part in parts) for parts in top)) if needs else top

    found = gradients(loss_of, model)
    exact = exact_gradients(evidence_bound(prior, IMAGE)[0], model)
    assert worst(found, exact, PARTS["inter-layer"]) > 3 * SIGMAS
    assert worst(found, exact, PARTS["energy"]) < SIGMAS


# In the space of z ----------------------------------------------------------------------------------------------------

IN_Z = {"kernel": {"name": "langevin", "step_size": 0.4, "adjusted": True}, "steps": 80, "space": "z"}
"""The published space and start of both chains, and the published step of the prior chain, with a Metropolis test."""


@pytest.fixture(scope="module")
def mcmc_in_z():
    """As the paper trains: both chains on z, every layer from its own N(0, I)."""
    model = both(*linear_model())
    own = settings("mcmc", chain=IN_Z, posterior_chain=IN_Z)
    return gradients(lambda rng: joint.McmcLoss(model["prior"], IMAGE, own, rng), model, repeats=8), model


@pytest.mark.parametrize("part", ["decoder", "inter-layer", "energy"])
def test_chains_in_z_give_the_gradient_of_the_log_evidence_too(mcmc_in_z, mcmc, part):
    found, model = mcmc_in_z
    exact = exact_gradients(log_evidence(model["prior"], IMAGE)[0], model)
    assert worst(found, exact, PARTS[part]) < SIGMAS
    whitened, _ = mcmc
    for name in PARTS[part]:
        (a, a_error), (b, b_error) = found[name], whitened[name]
        assert ((a - b).abs() / (a_error**2 + b_error**2).sqrt()).max() < SIGMAS


def test_variational_gradient_is_the_same_with_negatives_from_z(variational):
    """The negatives are drawn as z and used as ε = T⁻¹(z): held fast, they move with β in neither space."""
    _, exact = variational
    model = both(*linear_model())
    own = settings("variational", chain=IN_Z)
    found = gradients(lambda rng: joint.VariationalLoss(model["prior"], IMAGE, own, rng), model, repeats=8)
    assert max(worst(found, exact, names) for names in PARTS.values()) < SIGMAS


def test_generator_start_and_network_start_are_images_under_the_transform(monkeypatch):
    """Where the chains begin, with no step that could hide it."""
    hierarchy, prior = linear_model()
    starts = []
    monkeypatch.setattr(
        joint, "run_chain", lambda kernel, target, start, steps, rng: starts.append(start) or _still(start)
    )
    own = {"chain": IN_Z | {"start": "prior"}, "posterior_chain": IN_Z, "posterior_start": "network"}
    loss = joint.McmcLoss(prior, IMAGE, settings("mcmc", **own), make_rng("starts"))
    loss(5, ROWS[:6])
    rng = make_rng("starts")
    eps = hierarchy.infer(IMAGE[ROWS[:6]], rng).eps
    assert torch.equal(starts[0], flatten(hierarchy.transform(eps)).detach())
    noise = torch.randn(6, 3, generator=rng)
    assert torch.equal(starts[1], flatten(hierarchy.top_down_flat(noise).z).detach())


def _still(start):
    return ChainResult(start, torch.ones(()), torch.ones(len(start), dtype=torch.bool))


@pytest.mark.parametrize(("method", "space"), [("mcmc", "whitened"), ("mcmc", "z"), ("variational", "whitened")])
def test_regulariser_acts_on_the_energies_alone(method, space):
    """Same noise with and without: the energies' gradients differ by that of its definition, the others not at all."""
    short = {**(IN_Z if space == "z" else EXACT), "steps": 3}
    found = {}
    for weight in (0.0, 0.3):
        model = both(*linear_model())
        posterior = {"posterior_chain": short} if method == "mcmc" else {}
        own = settings(method, chain=short, energy_l2=weight, **posterior)
        value, scalars = joint.LOSSES[method](model["prior"], IMAGE, own, make_rng("penalty"))(5, ROWS[:50])
        value.backward()
        found[weight] = value, {name: p.grad.clone() for name, p in model.named_parameters()}, scalars
    difference = found[0.3][0] - found[0.0][0]
    assert difference > 0.01
    assert difference >= 0.3 * (found[0.0][2]["f_posterior"] ** 2 + found[0.0][2]["f_prior"] ** 2) - 1e-5  # Jensen
    for name, gradient in found[0.0][1].items():
        same = torch.allclose(found[0.3][1][name], gradient, rtol=1e-5, atol=1e-6)
        assert same != name.startswith("prior.energy"), name


# What belongs to the inference network -------------------------------------------------------------------------------


def chain_backbone():
    return PerceptronHierarchy((1, 2, 2), latent_dims=[3, 2], hidden=6, depth=1)


def residual_backbone():
    return ResidualHierarchy((1, 2, 2), layers_per_scale=[2], latent_channels=2, channels=[6], inference_hidden=4)


@pytest.mark.parametrize("make", [chain_backbone, residual_backbone])
def test_generator_uses_the_generator_parameters_and_no_other(make):
    hierarchy = make()
    hierarchy.initialise(make_rng("parts"))
    eps = torch.randn(4, hierarchy.dimensions, generator=make_rng("parts eps"))
    top = hierarchy.top_down_flat(eps)
    log_p = hierarchy.condition(hierarchy.transform(hierarchy.split(eps)))[1]
    (hierarchy.decode(top).log_prob(torch.zeros(4, 1, 2, 2)).sum() + log_p.sum()).backward()
    assert all(p.grad is not None for p in hierarchy.generative_parameters())
    assert all(p.grad is None for p in hierarchy.inference_parameters())
    assert len(hierarchy.inference_parameters()) > 0
    assert len(hierarchy.inference_parameters()) + len(hierarchy.generative_parameters()) == len(
        list(hierarchy.parameters())
    )


# The run -------------------------------------------------------------------------------------------------------------

PIXELS = torch.rand(24, 1, 2, 2, generator=make_rng("joint pixels")) * 2 - 1
SHORT = {"kernel": {"name": "langevin", "step_size": 0.1, "adjusted": True}, "steps": 4}


class Backbone(PerceptronHierarchy):
    """A tiny chain that sends its own process SIGTERM, or spoils its draws, at a call of ``infer``."""

    def __init__(self, stop_at=None, spoil_at=None):
        super().__init__((1, 2, 2), latent_dims=[3, 2], hidden=6, depth=1)
        self.calls, self.stop_at, self.spoil_at = 0, stop_at, spoil_at

    def infer(self, x, rng):
        self.calls += 1
        if self.calls == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        posterior = super().infer(x, rng)
        if self.calls == self.spoil_at:
            return posterior._replace(kl=posterior.kl * float("nan"))
        return posterior


def train(folder, method, start="prior", **backbone):
    hierarchy, rng = Backbone(**backbone), make_rng("train joint")
    hierarchy.initialise(rng)
    prior = joint_prior(hierarchy, hidden=4, depth=1).requires_grad_(True)
    prior.initialise(rng)
    changes = {"posterior_chain": SHORT, "posterior_start": start} if method == "mcmc" else {}
    own = settings(method, chain=SHORT, ema=0.9, warmup_steps=2, schedule="linear", log_interval=3, **changes)
    model, loss = both(hierarchy, prior), joint.LOSSES[method](prior, PIXELS, own, rng)
    run = TrainingRun("joint run", StateFile(folder, {}), rng)
    fitted = Trainer(model, loss, own, run, joint_groups(hierarchy, prior, own)).train()
    return torch.cat([p.detach().flatten() for p in model.parameters()]), fitted


@pytest.mark.parametrize(("method", "start"), [("mcmc", "prior"), ("mcmc", "network"), ("variational", "prior")])
def test_interrupted_joint_training_goes_on_to_the_same_bits(tmp_path, method, start):
    weights, fitted = train(tmp_path / "a", method, start)
    with pytest.raises(InterruptedRunError, match="joint run: stopped by SIGTERM at step 4"):
        train(tmp_path / "b", method, start, stop_at=4)
    resumed_weights, resumed = train(tmp_path / "b", method, start)
    assert torch.equal(resumed_weights, weights)
    assert resumed.history == fitted.history


def test_history_has_the_names_of_both_stages(tmp_path):
    _, fitted = train(tmp_path, "mcmc")
    names = {"energy_gap", "acceptance", "posterior_acceptance", "elbo", "kl_z1", "kl_z2"}
    assert names < set(fitted.history[0])


def test_diverged_joint_training_stops_before_a_step(tmp_path):
    with pytest.raises(
        DivergedError, match=r"joint run: .*elbo is nan.* at step 6 of 10; stopped before the optimiser"
    ):
        train(tmp_path, "variational", spoil_at=6)


def test_groups_have_their_own_rate_and_decay(tmp_path):
    """The first step of Adam is lr·sign(gradient), AdamW's decay w·(1 − lr·decay); the schedule scales both rates."""
    weights = [nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([-3.0]))]
    module = nn.ParameterList(weights)
    own = settings("variational", steps=2, warmup_steps=2, batch_size=1)
    groups = [ParameterGroup(weights[:1], 0.01, 0.5), ParameterGroup(weights[1:], 0.1, 0.0)]

    def loss(step, batch):
        if step:
            raise KeyboardInterrupt
        return weights[0].sum() + weights[1].sum(), {}

    run = TrainingRun("groups", StateFile(tmp_path, {}), make_rng(0))
    with pytest.raises(KeyboardInterrupt):
        Trainer(module, FunctionLoss(4, loss), own, run, groups).train()
    assert weights[0].item() == pytest.approx(2.0 * (1 - 0.005 * 0.5) - 0.005, abs=1e-6)
    assert weights[1].item() == pytest.approx(-3.0 - 0.05, abs=1e-6)


def test_inference_network_is_trained_at_some_steps_alone():
    """At the others its parameters get no gradient, and the history no bound."""
    hierarchy = PerceptronHierarchy((1, 2, 2), latent_dims=[3, 2], hidden=8)
    hierarchy.initialise(make_rng("every"))
    prior = joint_prior(hierarchy).requires_grad_(True)
    prior.initialise(make_rng("every"))
    pixels = torch.rand(6, 1, 2, 2, generator=make_rng("pixels")) * 2 - 1
    loss_of = joint.McmcLoss(prior, pixels, settings("mcmc", inference_interval=3), make_rng("noise"))
    for step in range(5):
        hierarchy.zero_grad()
        value, scalars = loss_of(step, torch.arange(6))
        value.backward()
        infers = step == 2
        assert all((p.grad is not None) == infers for p in hierarchy.inference_parameters())
        assert all(p.grad is not None for p in hierarchy.generative_parameters())
        assert ("elbo" in scalars) == infers


@pytest.mark.parametrize("changes", [{"posterior_start": "network"}, {"method": "variational"}])
def test_inference_network_can_not_rest_where_it_is_needed(changes):
    with pytest.raises(ValueError, match="inference_interval: must be 1"):
        settings(**{"method": "mcmc", "inference_interval": 2} | changes)


@pytest.mark.parametrize(("betas", "back"), [([0.0, 0.0], True), ([0.9, 0.999], False)])
def test_betas_are_those_of_the_settings(tmp_path, betas, back):
    """Without memory every step of Adam is lr·sign(gradient): two gradients of opposite sign undo each other."""
    weight = nn.Parameter(torch.tensor([2.0]))
    own = settings("variational", steps=2, batch_size=1, betas=betas, schedule="constant")
    loss = FunctionLoss(4, lambda step, batch: ((1.0 if step == 0 else -7.0) * weight.sum(), {}))
    run = TrainingRun("betas", StateFile(tmp_path, {}), make_rng(0))
    Trainer(nn.ParameterList([weight]), loss, own, run).train()
    assert (abs(weight.item() - 2.0) < 1e-6) == back


def test_a_watched_scalar_beyond_its_limit_is_a_divergence_while_the_loss_is_small(tmp_path):
    weight = nn.Parameter(torch.tensor([2.0]))
    own = settings("variational", steps=5, batch_size=1)

    def loss(step, batch):
        return weight.sum(), {"energy_gap": torch.tensor(-20.0 if step == 3 else 5.0)}

    run = TrainingRun("watched", StateFile(tmp_path, {}), make_rng(0))
    watched = Divergence("energy_gap", 10.0)
    trainer = Trainer(nn.ParameterList([weight]), FunctionLoss(4, loss), own, run, divergence=watched)
    with pytest.raises(DivergedError, match=r"energy_gap is -20 at step 4 of 5; stopped before the optimiser stepped"):
        trainer.train()
