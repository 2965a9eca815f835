"""What noise-contrastive and sequential training learn, against closed forms and quadrature; both resume to the bit."""

import math
import os
import signal

import pytest
import torch
from ladder import OFFSETS, SCALES, WEIGHTS, Ladder, Quadratic
from oracles import SIGMAS, spec

from jebm.config.training import TrainPrior
from jebm.errors import InterruptedRunError
from jebm.models.backbones.base import EMPTY, flatten
from jebm.models.backbones.perceptron import PerceptronHierarchy
from jebm.models.priors.ncp import NoiseContrastivePrior
from jebm.models.priors.sequential import SequentialPrior
from jebm.runtime.random import make_rng
from jebm.training import ncp, sequential
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile

CHAIN = {"name": "short-run", "kernel": {"name": "pcnl", "step_size": 0.6}, "steps": 10}
IMAGES = {"train": torch.zeros(2000, 1, 1, 1)}
SLOPE, SHIFT, SD_1, MEAN_2, SD_2 = 0.7, 0.4, 0.6, -0.5, 0.8
"""q(ε_2) = N(MEAN_2, SD_2²) and q(ε_1 | ε_2) = N(SLOPE ε_2 + SHIFT, SD_1²)."""


def correlated(count, rng):
    noise = torch.randn(count, 2, generator=rng)
    upper = MEAN_2 + SD_2 * noise[:, 1]
    return torch.stack([SLOPE * upper + SHIFT + SD_1 * noise[:, 0], upper], 1)


def settings(**values):
    block = {"steps": 10, "batch_size": 8, "learning_rate": 0.01, "estimator": CHAIN, "log_interval": 3}
    return TrainPrior(**block | values)


def learn(module, kind, folder, energy=None, hierarchy=None, pixels=IMAGES, **values):
    prior = kind(hierarchy or Ladder(2, correlated), energy=spec("energy", name="layerwise", hidden=4, depth=1))
    if energy is not None:
        prior.energy = energy
    run = TrainingRun("prior", StateFile(folder, {}), make_rng("fit"))
    history, facts, _ = module.fit(prior, pixels, settings(**values), run)
    return prior, history, facts


# Noise-contrastive ---------------------------------------------------------------------------------------------------


class FullQuadratic(Quadratic):
    """Every monomial of (ε_1, ε_2) up to the second degree, as the log ratio of two Gaussians needs."""

    def __init__(self):
        super().__init__(1)
        self.nets["1"] = torch.nn.Linear(6, 1, bias=False)
        torch.nn.init.zeros_(self.nets["1"].weight)

    def term(self, number, top):
        upper = top.z[1]
        own = (top.z[0] - WEIGHTS[0] * upper - OFFSETS[0]) / SCALES[0]
        return self.nets["1"](torch.cat([own**2, upper**2, own * upper, own, upper, torch.ones_like(own)], 1)).squeeze(
            1
        )


def log_ratio():
    """Coefficients of log q(ε) − log N(ε; 0, I) in the monomials of ``FullQuadratic``."""
    own, upper = 1 / SD_1**2, 1 / SD_2**2
    return torch.tensor(
        [
            0.5 * (1 - own),
            0.5 * (1 - upper - own * SLOPE**2),
            own * SLOPE,
            own * SHIFT,
            upper * MEAN_2 - own * SLOPE * SHIFT,
            -0.5 * (own * SHIFT**2 + upper * MEAN_2**2) - math.log(SD_1 * SD_2),
        ]
    )


def ncp_gradients(weight, count=4000, batches=20):
    prior = NoiseContrastivePrior(Ladder(2, correlated), energy=spec("energy", name="layerwise", hidden=4, depth=1))
    prior.energy = FullQuadratic()
    prior.energy.nets["1"].weight.data[0] = weight
    loss = ncp.LogisticLoss(prior, torch.zeros(count, 1, 1, 1), settings(estimator=None), make_rng("ncp"))
    gradients = []
    for _ in range(batches):
        value, scalars = loss(0, torch.arange(count))
        gradients.append(torch.autograd.grad(value, prior.energy.nets["1"].weight)[0][0])
    return torch.stack(gradients), value, scalars


def test_log_ratio_is_that_of_the_densities():
    eps = correlated(50, make_rng("eps"))
    normal = torch.distributions.Normal
    exact = normal(MEAN_2, SD_2).log_prob(eps[:, 1]) + normal(SLOPE * eps[:, 1] + SHIFT, SD_1).log_prob(eps[:, 0])
    exact = exact - normal(0.0, 1.0).log_prob(eps).sum(1)
    a, b = eps.unbind(1)
    torch.testing.assert_close(torch.stack([a**2, b**2, a * b, a, b, torch.ones(50)], 1) @ log_ratio(), exact)


def test_the_best_classifier_is_the_log_density_ratio():
    """There the loss has no slope, 20 batches of 4,000, five standard errors; with a wrong constant it has."""
    gradients, *_ = ncp_gradients(log_ratio())
    error = gradients.std(0) / math.sqrt(len(gradients))
    assert (gradients.mean(0).abs() < SIGMAS * error).all()
    shifted, *_ = ncp_gradients(log_ratio() + torch.tensor([0.0, 0, 0, 0, 0, 0.2]))
    assert (shifted.mean(0)[-1] / error[-1]).abs() > 3 * SIGMAS


def test_loss_of_a_classifier_that_cannot_tell_is_two_log_two():
    _, value, scalars = ncp_gradients(torch.zeros(6), count=10, batches=1)
    assert float(value.detach()) == pytest.approx(2 * math.log(2))
    assert scalars["accuracy"] == 0.5


def test_ncp_learns_the_log_density_ratio_and_so_a_partition_function_of_one(tmp_path):
    values = {"steps": 200, "batch_size": 600, "learning_rate": 0.1, "ema": 0.9, "estimator": None}
    prior, history, _ = learn(ncp, NoiseContrastivePrior, tmp_path, energy=FullQuadratic(), **values)
    torch.testing.assert_close(prior.energy.coefficients()[0], log_ratio(), atol=0.05, rtol=0)
    noise = torch.randn(20_000, 2, generator=make_rng("z"))
    with torch.no_grad():
        assert prior.tilt(noise).exp().mean() == pytest.approx(1, abs=0.05)
    assert set(history[0]) == {"step", "loss", "accuracy", "f_posterior", "f_prior", "gradient_norm"}


# Sequential ----------------------------------------------------------------------------------------------------------


def test_sequential_learns_the_conditional_of_each_layer(tmp_path):
    """Cross terms let f_1 follow ε_2: then p(ε_1 | ε_2) and p(ε_2) can be q's, here by quadrature on the learned f."""
    values = {"steps": 120, "batch_size": 600, "learning_rate": 0.3, "ema": 0.95}
    values["estimator"] = {"name": "short-run", "kernel": {"name": "pcnl", "step_size": 0.8}, "steps": 6}
    prior, history, _ = learn(sequential, SequentialPrior, tmp_path, energy=Quadratic(2), **values)
    grid = torch.linspace(-8, 8, 801).unsqueeze(1)
    for upper in (-1.5, 0.0, 1.0):
        above = prior.hierarchy.descend(EMPTY, torch.full((len(grid), 1), upper))
        mean, sd = moments(prior, above, grid)
        assert (mean, sd) == pytest.approx((SLOPE * upper + SHIFT, SD_1), abs=0.05)
    assert moments(prior, EMPTY, grid) == pytest.approx((MEAN_2, SD_2), abs=0.05)
    assert {"energy_gap", "gap_z1", "gap_z2", "acceptance"} < set(history[0])


@torch.no_grad()
def moments(prior, above, grid):
    weight = torch.softmax(prior.layer_tilt(above, grid) - 0.5 * grid[:, 0] ** 2, 0)
    mean = weight @ grid[:, 0]
    return float(mean), float((weight @ (grid[:, 0] - mean) ** 2).sqrt())


def mild():
    """A real chain of 1 + 1 dimensions under a real, mild energy."""
    hierarchy = PerceptronHierarchy((1, 2, 2), latent_dims=[1, 1], hidden=8, depth=1, mean_gain=1.5)
    hierarchy.initialise(make_rng("mild hierarchy"))
    prior = SequentialPrior(hierarchy.requires_grad_(False), energy=spec("energy", name="layerwise", hidden=8, depth=1))
    rng = make_rng("mild energy")
    prior.initialise(rng)
    for net in prior.energy.nets.values():
        net[0].weight.data.normal_(generator=rng)
        net[-1].weight.data.normal_(generator=rng).mul_(0.7)
    return prior


def test_gradient_of_a_layer_is_that_of_its_conditional_likelihood():
    """E_q(ε_2) E_p(ε_1 | ε_2)[∂f_1] − E_q[∂f_1], the inner mean by quadrature for other draws of q, 5 errors."""
    prior = mild()
    pixels = torch.rand(3000, 1, 2, 2, generator=make_rng("pixels")) * 2 - 1
    chain = {"name": "short-run", "kernel": {"name": "pcnl", "step_size": 0.7}, "steps": 40}
    loss = sequential.LayerwiseLoss(prior, pixels, settings(estimator=chain), make_rng("gradient"))
    value, scalars = loss(0, torch.arange(3000))
    value.backward()
    found = prior.energy.nets["1"][-1].weight.grad[0].double()
    assert float(value.detach()) == pytest.approx(-float((scalars["gap_z1"] + scalars["gap_z2"]).detach()))

    with torch.no_grad():
        posterior = prior.hierarchy.infer(pixels, make_rng("other draws"))
        positive = prior.energy.nets["1"][:-1](posterior.top.z[0]).double()
        grid = torch.linspace(-7, 7, 141).unsqueeze(1)
        above = posterior.top.above(1)
        wide = type(above)(*(tuple(t.repeat_interleave(141, 0) for t in part) for part in above))
        points = grid.repeat(3000, 1)
        log_density = (prior.layer_tilt(wide, points) - 0.5 * points[:, 0] ** 2).reshape(3000, 141)
        hidden = prior.energy.nets["1"][:-1](prior.descend(wide, points).z[0]).reshape(3000, 141, -1)
        inner = torch.einsum("ng,ngh->nh", torch.softmax(log_density, 1), hidden).double()
        inner_square = torch.einsum("ng,ngh->nh", torch.softmax(log_density, 1), hidden.square()).double()
    expected = inner.mean(0) - positive.mean(0)
    negative_variance = inner_square.mean(0) - inner.mean(0).square()
    error = ((negative_variance + inner.var(0) + 2 * positive.var(0)) / 3000).sqrt()
    assert ((found - expected) / error).abs().max() < SIGMAS
    assert (found / error).abs().max() > 2 * SIGMAS  # so that the opposite sign would show


def test_layers_share_no_gradient():
    prior = mild()
    pixels = torch.rand(8, 1, 2, 2, generator=make_rng("pixels")) * 2 - 1
    _, scalars = sequential.LayerwiseLoss(prior, pixels, settings(), make_rng("gradient"))(0, torch.arange(8))
    scalars["gap_z2"].backward()
    assert prior.energy.nets["2"][-1].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in prior.energy.nets["1"].parameters())
    assert all(p.grad is None for p in prior.hierarchy.parameters())
    assert all(p.requires_grad for p in prior.parameters())


# Both ----------------------------------------------------------------------------------------------------------------


class Stopping(PerceptronHierarchy):
    """Sends its own process SIGTERM at a call of ``infer``."""

    def __init__(self, stop_at=None):
        super().__init__((1, 2, 2), latent_dims=[3, 2], hidden=6, depth=1)
        self.initialise(make_rng("tiny backbone"))
        self.calls, self.stop_at = 0, stop_at

    def infer(self, x, rng):
        self.calls += 1
        if self.calls == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().infer(x, rng)


@pytest.mark.parametrize(
    ("module", "kind", "estimator"), [(ncp, NoiseContrastivePrior, None), (sequential, SequentialPrior, CHAIN)]
)
def test_interrupted_fit_goes_on_to_the_same_bits(module, kind, estimator, tmp_path):
    def run(folder, stop_at=None):
        pixels = {"train": torch.rand(24, 1, 2, 2, generator=make_rng("pixels")) * 2 - 1}
        prior, history, facts = learn(
            module, kind, folder, hierarchy=Stopping(stop_at), pixels=pixels, ema=0.9, estimator=estimator
        )
        assert facts["steps"] == 10
        return flatten(tuple(p.detach().reshape(1, -1) for p in prior.parameters())), history

    weights, history = run(tmp_path / "a")
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "b", stop_at=4)
    resumed, resumed_history = run(tmp_path / "b")
    assert weights.abs().sum() > 0
    assert torch.equal(resumed, weights)
    assert resumed_history == history
