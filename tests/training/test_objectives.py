"""The two stages' losses against hand computations, closed forms and quadrature; their runs resume to the bit."""

import math
import os
import signal

import pytest
import torch
from oracles import SIGMAS, LinearHierarchy, grid, joint_prior, mild_prior
from torch.distributions import Normal, kl_divergence

from jebm.config.components import build
from jebm.config.training import Optimisation, TrainBackbone, TrainPrior
from jebm.errors import DivergedError, InterruptedRunError, SettingError
from jebm.models.backbones.base import flatten
from jebm.models.backbones.perceptron import PerceptronHierarchy
from jebm.models.priors.aggregate_posterior import AggregatePosterior
from jebm.models.priors.mixture import MixturePrior
from jebm.runtime.random import make_rng
from jebm.sampling.run import run_chain
from jebm.sampling.target import Target
from jebm.training import aggregate_posterior, ebm, mixture
from jebm.training.elbo import ElboLoss
from jebm.training.loop import Trainer
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile

PIXELS = torch.rand(24, 1, 2, 2, generator=make_rng("pixels")) * 2 - 1


class Backbone(PerceptronHierarchy):
    """A tiny chain that may send its own process SIGTERM, or turn its draws into NaN, at a call of ``infer``."""

    def __init__(self, stop_at=None, spoil_at=None):
        super().__init__((1, 2, 2), latent_dims=[3, 2], hidden=6, depth=1)
        self.initialise(make_rng("tiny backbone"))
        self.calls, self.stop_at, self.spoil_at = 0, stop_at, spoil_at

    def infer(self, x, rng):
        self.calls += 1
        if self.calls == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        posterior = super().infer(x, rng)
        if self.calls == self.spoil_at:
            eps = tuple(layer * math.nan for layer in posterior.eps)
            return posterior._replace(eps=eps, top=self.top_down_flat(flatten(eps)))
        return posterior


def prior_settings(**settings):
    estimator = {
        "name": "short-run",
        **settings.pop("chain", {"kernel": {"name": "pcnl", "step_size": 0.4}, "steps": 5}),
    }
    block = {"steps": 10, "batch_size": 8, "learning_rate": 0.01, "estimator": estimator, "log_interval": 3}
    return TrainPrior(**block | settings)


def stage_1(ramps, steps, **settings):
    return TrainBackbone(steps=steps, batch_size=8, learning_rate=0.01, kl_warmup=ramps, **settings)


# Stage 1 -------------------------------------------------------------------------------------------------------------


def test_elbo_loss_by_hand():
    """−mean log p(x|z) + Σ w_i KL_i at step 30 of 100, where the weights are 0.6 and 0.25."""
    hierarchy, batch = Backbone(), torch.tensor([3, 7, 7, 11])
    loss, scalars = ElboLoss(hierarchy, PIXELS, stage_1([[0.0, 0.5], [0.2, 0.6]], steps=100), make_rng("elbo"))(
        30, batch
    )
    x, rng = PIXELS[batch], make_rng("elbo")
    context, eps, kl = x.flatten(1), {}, {}
    for layer in (1, 0):
        mean, log_sd = hierarchy.inference_nets[layer](context).chunk(2, 1)
        eps[layer] = mean + log_sd.exp() * torch.randn(mean.shape, generator=rng)
        kl[layer] = kl_divergence(Normal(mean, log_sd.exp()), Normal(0.0, 1.0)).sum(1).mean()
        context = torch.cat([context, eps[layer]], 1)
    mean, raw = hierarchy.generator_nets[0](eps[1]).chunk(2, 1)
    z = mean + torch.exp(1.5 * torch.tanh(raw / 1.5) - 1.5) * eps[0]
    log_px = Normal(torch.tanh(hierarchy.decoder(z)), 0.3).log_prob(x.flatten(1)).sum(1).mean()
    torch.testing.assert_close(loss, -log_px + 0.6 * kl[0] + 0.25 * kl[1])
    torch.testing.assert_close(scalars["log_px"], log_px)
    torch.testing.assert_close(scalars["elbo"], log_px - kl[0] - kl[1])
    torch.testing.assert_close(scalars["kl_z1"], kl[0])
    torch.testing.assert_close(scalars["kl_z2"], kl[1])


def test_elbo_of_the_exact_posterior_is_the_evidence():
    """With q(ε|x) exact and both weights 1, −loss estimates log p(x): 60 batches of 100 draws, 5 standard errors."""
    hierarchy = LinearHierarchy((3, 2))
    x = torch.randn(1, 1, 1, 4, generator=make_rng("x"))
    loss = ElboLoss(hierarchy, x, stage_1([[0.0, 0.0], [0.0, 0.0]], steps=10), make_rng("evidence"))
    values = torch.stack([loss(10, torch.zeros(100, dtype=torch.int64))[0] for _ in range(60)]).double()
    error = values.std() / math.sqrt(60)
    assert error < 0.05
    assert abs(-values.mean() - hierarchy.log_evidence(x)[0]) < SIGMAS * error


def test_elbo_before_the_ramps_is_reconstruction_alone():
    hierarchy = Backbone()
    loss, scalars = ElboLoss(hierarchy, PIXELS, stage_1([[0.5, 0.6], [0.5, 0.6]], steps=100), make_rng("elbo"))(
        0, torch.arange(4)
    )
    assert torch.equal(loss, -scalars["log_px"])


def test_balance_by_scale_takes_the_size_of_each_kl_alone():
    """Where a flow makes a draw's KL negative, the layer is weighed by its size and the loss keeps its sign."""

    class Signed(Backbone):
        def infer(self, x, rng):
            posterior = super().infer(x, rng)
            signs = torch.where(torch.arange(len(x)) % 2 == 0, 1.0, -1.0)
            return posterior._replace(kl=posterior.kl * signs.unsqueeze(1))

    settings = stage_1([[0.0, 1.0]], steps=10, kl_balance="scale", min_kl_weight=0.6)
    hierarchy, batch = Signed(), torch.arange(4)
    loss, scalars = ElboLoss(hierarchy, PIXELS, settings, make_rng("signed"))(2, batch)
    kl = hierarchy.infer(PIXELS[batch], make_rng("signed")).kl
    factors = kl.abs().mean(0) + 0.01
    factors = factors / factors.mean()
    torch.testing.assert_close(loss, -scalars["log_px"] + 0.6 * (factors * kl.mean(0)).sum())
    after, later = ElboLoss(hierarchy, PIXELS, settings, make_rng("signed"))(10, batch)
    torch.testing.assert_close(after, -later["log_px"] + kl.mean(0).sum())


def train_backbone(folder, stop_at=None):
    hierarchy, rng = Backbone(stop_at), make_rng("train backbone")
    settings = Optimisation(steps=10, batch_size=8, learning_rate=0.01, log_interval=3)
    loss = ElboLoss(hierarchy, PIXELS, stage_1([[0.0, 0.5], [0.2, 0.6]], steps=10), rng)
    fitted = Trainer(hierarchy, loss, settings, TrainingRun("stage 1", StateFile(folder, {}), rng)).train()
    return torch.cat([p.flatten() for p in hierarchy.parameters()]), fitted.history


def test_interrupted_backbone_goes_on_to_the_same_bits(tmp_path):
    weights, history = train_backbone(tmp_path / "a")
    with pytest.raises(InterruptedRunError):
        train_backbone(tmp_path / "b", stop_at=5)
    resumed_weights, resumed_history = train_backbone(tmp_path / "b")
    assert torch.equal(resumed_weights, weights)
    assert resumed_history == history


# Stage 2 -------------------------------------------------------------------------------------------------------------


def test_log_partition_grows_along_the_mean_gradient_of_f():
    """d log Z / dw = E_p[df/dw], central differences against the mean, both by quadrature in float64."""
    hierarchy, prior = mild_prior()
    hierarchy.double()
    prior.double().requires_grad_(True)
    quadrature = grid(8, 201)
    points, base = quadrature.points.double(), -0.5 * quadrature.points.double().square().sum(1)
    weights = torch.softmax(prior.tilt(points).detach() + base, 0)
    (weights * prior.tilt(points)).sum().backward()
    checked = 0
    for name, parameter in prior.named_parameters():
        index = tuple(0 for _ in parameter.shape)
        values = []
        for step in (1e-4, -1e-4):
            with torch.no_grad():
                parameter[index] += step
                values.append(float(torch.logsumexp(prior.tilt(points) + base, 0)))
                parameter[index] -= step
        assert (values[0] - values[1]) / 2e-4 == pytest.approx(float(parameter.grad[index]), abs=1e-6), name
        checked += abs(float(parameter.grad[index])) > 1e-3
    assert checked >= 4


def test_likelihood_gradient_is_that_of_the_negative_log_likelihood():
    """E_p[df/dw] − E_q[df/dw], E_p by quadrature and E_q by other draws: 4,000 chains, 5 standard errors."""
    hierarchy, prior = mild_prior()
    prior.requires_grad_(True)
    pixels = torch.rand(4000, 1, 2, 2, generator=make_rng("gradient pixels")) * 2 - 1
    chain = {"kernel": {"name": "pcnl", "step_size": 0.6}, "steps": 60}
    settings = prior_settings(batch_size=4000, chain=chain)
    loss, scalars = ebm.LikelihoodLoss(prior, pixels, settings, make_rng("gradient"))(0, torch.arange(4000))
    loss.backward()

    def hidden(eps):  # df/dw of the last layer of f_2
        return prior.energy.nets["2"][:-1](hierarchy.top_down_flat(eps).z[1]).detach().double()

    quadrature = grid()
    density = prior.log_prob(quadrature.points).detach()
    with torch.no_grad():
        positive = hidden(flatten(hierarchy.infer(pixels, make_rng("other draws")).eps))
    negative = quadrature.mean(density, hidden(quadrature.points))
    variance = quadrature.mean(density, hidden(quadrature.points).square()) - negative.square()
    error = ((variance + 2 * positive.var(0)) / 4000).sqrt()  # our draws of q, and the loss's own
    found = prior.energy.nets["2"][-1].weight.grad[0].double()
    assert ((found - (negative - positive.mean(0))) / error).abs().max() < SIGMAS
    assert (found / error).abs().max() > 3 * SIGMAS  # so that the opposite sign would show
    assert loss == -scalars["energy_gap"]
    torch.testing.assert_close(scalars["energy_gap"], scalars["f_posterior"] - scalars["f_prior"])


def test_likelihood_loss_by_hand():
    """The order of the stream: posterior draws, the chain's start, the chain; f is averaged over each."""
    hierarchy = Backbone()
    prior = joint_prior(hierarchy, hidden=4, depth=1).requires_grad_(True)
    prior.initialise(make_rng("energy"))
    prior.energy.nets["1"][-1].weight.data.normal_(generator=make_rng("w"))
    batch, settings = torch.tensor([1, 5, 9]), prior_settings()
    loss, scalars = ebm.LikelihoodLoss(prior, PIXELS, settings, make_rng("by hand"))(0, batch)
    rng = make_rng("by hand")
    positive = flatten(hierarchy.infer(PIXELS[batch], rng).eps)
    start = torch.randn(3, 5, generator=rng)
    kernel = build("kernel", settings.estimator.kernel)
    negative = run_chain(kernel, Target(prior.tilt), start, 5, rng)
    torch.testing.assert_close(loss, prior.tilt(negative.x).mean() - prior.tilt(positive).mean())
    assert scalars["acceptance"] == negative.acceptance


def test_likelihood_loss_reaches_the_energy_only():
    hierarchy = Backbone()
    prior = joint_prior(hierarchy, hidden=4, depth=1).requires_grad_(True)
    prior.initialise(make_rng("energy"))
    hierarchy.requires_grad_(False)
    loss, _ = ebm.LikelihoodLoss(prior, PIXELS, prior_settings(), make_rng(0))(0, torch.arange(8))
    loss.backward()
    assert prior.energy.nets["1"][-1].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in hierarchy.parameters())
    assert all(p.requires_grad for p in prior.parameters())


def fit_energy(folder, **backbone):
    hierarchy = Backbone(**backbone)
    prior = joint_prior(hierarchy, hidden=4, depth=1).requires_grad_(True)
    run = TrainingRun("digits prior abc seed 0", StateFile(folder, {}), make_rng("fit"))
    before = {name: p.detach().clone() for name, p in hierarchy.named_parameters()}
    history, facts, _ = ebm.fit(prior, {"train": PIXELS}, prior_settings(ema=0.9), run)
    assert all(torch.equal(p, before[name]) for name, p in hierarchy.named_parameters())
    return torch.cat([p.detach().flatten() for p in prior.parameters()]), history, facts


def test_fit_changes_the_energy_and_reports_its_steps(tmp_path):
    weights, history, facts = fit_energy(tmp_path)
    assert weights.abs().sum() > 0
    assert [row["step"] for row in history] == [3, 6, 9, 10]
    assert set(history[0]) == {"step", "loss", "energy_gap", "f_posterior", "f_prior", "acceptance", "gradient_norm"}
    assert facts["steps"] == 10


def test_interrupted_fit_goes_on_to_the_same_bits(tmp_path):
    weights, history, _ = fit_energy(tmp_path / "a")
    with pytest.raises(InterruptedRunError, match="digits prior abc seed 0: stopped by SIGTERM at step 4"):
        fit_energy(tmp_path / "b", stop_at=4)
    resumed_weights, resumed_history, _ = fit_energy(tmp_path / "b")
    assert torch.equal(resumed_weights, weights)
    assert resumed_history == history


def test_fit_that_meets_a_nan_names_what_where_and_the_checkpoint(tmp_path):
    with pytest.raises(DivergedError) as error:
        fit_energy(tmp_path, spoil_at=6)
    message = str(error.value)
    assert "digits prior abc seed 0" in message
    assert "f_posterior is nan" in message
    assert "f_prior is nan" not in message
    assert "step 6 of 10" in message
    assert str(tmp_path / "state.pt") in message


def test_mixture_keeps_the_size_with_the_best_held_out_density():
    hierarchy = LinearHierarchy((2, 1))
    prior = MixturePrior(hierarchy, components=[1, 3, 30], draws=2)
    pixels = {
        split: torch.randn(60, 1, 1, 4, generator=make_rng("mixture", split)) for split in ("train", "validation")
    }
    history, facts, _ = mixture.fit(prior, pixels, None, TrainingRun("mixture", None, make_rng("mixture")))
    assert [row["components"] for row in history] == [1, 3, 30]
    best = max(history, key=lambda row: row["validation_log_prob"])
    assert facts["components"] == best["components"] == len(prior.means)
    assert history[-1]["train_log_prob"] > best["train_log_prob"]  # the largest fits the training draws best
    assert prior.log_weights.exp().sum() == pytest.approx(1, abs=1e-5)


def test_mixture_is_fitted_to_the_number_of_images_that_it_says():
    hierarchy, run = LinearHierarchy((2, 1)), TrainingRun("mixture", None, make_rng("mixture"))
    pixels = {
        split: torch.randn(60, 1, 1, 4, generator=make_rng("mixture", split)) for split in ("train", "validation")
    }
    mixture.fit(MixturePrior(hierarchy, components=[30], draws=1, images=30), pixels, None, run)
    with pytest.raises(SettingError, match="components: is 30, but mixture has 20 posterior draws"):
        mixture.fit(MixturePrior(hierarchy, components=[30], draws=1, images=20), pixels, None, run)


def test_mixture_density_is_the_one_that_was_scored():
    hierarchy = LinearHierarchy((2, 1))
    prior = MixturePrior(hierarchy, components=[2], draws=1)
    pixels = {
        split: torch.randn(40, 1, 1, 4, generator=make_rng("mixture", split)) for split in ("train", "validation")
    }
    history, _, _ = mixture.fit(prior, pixels, None, TrainingRun("mixture", None, make_rng("mixture")))
    again = make_rng("mixture")
    draws = [flatten(hierarchy.infer(pixels[split], again).eps) for split in ("train", "validation")]
    assert float(prior.log_prob(draws[1]).mean()) == pytest.approx(history[0]["validation_log_prob"], abs=1e-4)


def test_aggregate_posterior_is_draws_for_each_training_image():
    hierarchy = LinearHierarchy((2, 1))
    pixels = {"train": torch.randn(30, 1, 1, 4, generator=make_rng("train")), "validation": None}
    prior = AggregatePosterior(hierarchy, draws=400)
    history, facts, _ = aggregate_posterior.fit(prior, pixels, None, TrainingRun("rows", None, make_rng("rows")))
    assert facts == {"draws": 12_000, "parameters": 0}
    assert history == [{"draws": 12_000}]
    of_images = prior.rows.unflatten(0, (400, 30))
    again = make_rng("rows")
    assert torch.equal(of_images[0], flatten(hierarchy.infer(pixels["train"], again).eps))
    assert torch.equal(of_images[1], flatten(hierarchy.infer(pixels["train"], again).eps))


def test_aggregate_posterior_of_many_images_takes_some_of_them():
    hierarchy = LinearHierarchy((2, 1))
    pixels = {"train": torch.randn(30, 1, 1, 4, generator=make_rng("train"))}
    prior = AggregatePosterior(hierarchy, draws=2, images=7)
    aggregate_posterior.fit(prior, pixels, None, TrainingRun("rows", None, make_rng("rows")))
    assert prior.rows.shape == (14, hierarchy.dimensions)
