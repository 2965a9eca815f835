"""The yardstick is the same chain, and ours is faster than it; both are what the benchmark's tables rest on."""

import pytest
import torch
from oracles import spec
from torch import nn

from jebm.bench import plain
from jebm.bench.measure import timed
from jebm.config.components import build
from jebm.config.training import TrainJoint
from jebm.models.nets import frozen
from jebm.models.priors.ebm import JointPrior
from jebm.runtime.random import make_rng
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import SPACES
from jebm.training.joint import LOSSES
from jebm.training.loop import Trainer
from jebm.training.optimisers import ParameterGroup
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile

CPU = torch.device("cpu")
PUBLISHED = {"hidden": [200, 100], "depth": [3, 2], "activation": "leaky-relu", "start": "random"}
"""The energies of the two-layer experiment; its other sizes are the defaults of the backbone."""
SMALL = {"hidden": 6, "start": "random"}


def model(image_shape, energy, **backbone):
    hierarchy = build("backbone", spec("backbone", name="convolutional", **backbone), image_shape)
    prior = JointPrior(hierarchy, energy=spec("energy", name="layerwise", **energy))
    for module in (hierarchy, prior):
        module.initialise(make_rng("plain", len(energy)))
    return hierarchy, prior


def langevin(step_size):
    return build("kernel", spec("kernel", name="langevin", step_size=step_size))


def ours(target, modules, start, steps, step_size):
    with frozen(*modules):
        return run_chain(langevin(step_size), target, start, steps, make_rng("noise")).x


@pytest.mark.parametrize("gradients", ["autograd", "closed-form"])
@pytest.mark.parametrize("space", ["z", "whitened"])
def test_same_chain_and_noise_give_the_same_result(space, gradients):
    hierarchy, prior = model((3, 8, 8), SMALL, latent_dims=[5, 4], channels=[6, 5], hidden=7)
    hierarchy.double(), prior.double()
    x = torch.rand(9, 3, 8, 8, generator=make_rng("x"), dtype=torch.float64) * 2 - 1
    start = torch.randn(9, 9, generator=make_rng("start"), dtype=torch.float64)
    chosen = SPACES[space](hierarchy, prior)
    pairs = [
        (plain.prior_parts(hierarchy, prior, space), chosen.target(gradients)),
        (plain.posterior_parts(hierarchy, prior, x, space), chosen.posterior(x, gradients)),
    ]
    for parts, target in pairs:
        expected = plain.langevin(parts, start, 15, 0.1, make_rng("noise"))
        found = ours(target, (hierarchy, prior), start, 15, 0.1)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def joint_settings(batch, posterior_steps, prior_steps, gradients="closed-form"):
    kernel = {"name": "langevin", "adjusted": False}
    chain = {"space": "z", "gradients": gradients}
    return TrainJoint(
        method="mcmc", inference_interval=4, steps=10**6, batch_size=batch, learning_rate=1e-4,
        energy_learning_rate=2e-5, schedule="constant", log_interval=10**6,
        chain={"kernel": {**kernel, "step_size": 0.4}, "steps": prior_steps, **chain},
        posterior_chain={"kernel": {**kernel, "step_size": 0.1}, "steps": posterior_steps, **chain},
    )  # fmt: skip


def test_plain_joint_step_moves_generator_and_energies_alone():
    hierarchy, prior = model((3, 8, 8), SMALL, latent_dims=[5, 4], channels=[6, 5], hidden=7)
    before = {n: p.detach().clone() for n, p in nn.ModuleList([hierarchy, prior]).named_parameters()}
    pixels = torch.rand(6, 3, 8, 8, generator=make_rng("x")) * 2 - 1
    plain.joint_step(hierarchy, prior, joint_settings(6, 4, 6), pixels, make_rng("noise"))()
    inference = {id(parameter) for parameter in hierarchy.inference_parameters()}
    for name, parameter in nn.ModuleList([hierarchy, prior]).named_parameters():
        moved = not torch.equal(parameter, before[name])
        constant = name.startswith("1.") and name.endswith(".bias") and len(parameter) == 1  # cancels in E⁺ − E⁻
        assert moved == (id(parameter) not in inference) or constant, name


def quickest(first, second, enough, rounds=25):
    """How many times as long the second call takes as the first: by the fastest of calls in turn, until it is enough.

    What else a machine does only ever adds to a call, so more rounds bring the fastest ones closer to the truth.
    """
    best = [float("inf")] * 2
    for call in (first, second):
        call()
    for _ in range(rounds):
        best = [min(b, timed(call, CPU)) for b, call in zip(best, (first, second), strict=True)]
        if best[1] / best[0] >= enough:
            break
    return best[1] / best[0]


@pytest.mark.parametrize("space", ["z", "whitened"])
def test_prior_chain_at_the_published_sizes_is_faster_than_the_plain_one(space):
    """128 and 100 dimensions, 60 steps, 100 chains. The matrix products alone, which both have to do, took half of the
    plain chain's time where this was written: no saving of overhead makes it twice as fast. 1.5 was measured."""
    hierarchy, prior = model((3, 32, 32), PUBLISHED, channels=[8, 8, 8])  # no chain here looks at the decoder
    start = torch.randn(100, 228, generator=make_rng("start"))
    target, parts = SPACES[space](hierarchy, prior).target("closed-form"), plain.prior_parts(hierarchy, prior, space)
    faster = quickest(
        lambda: ours(target, (hierarchy, prior), start, 60, 0.01),
        lambda: plain.langevin(parts, start, 60, 0.01, make_rng("noise")),
        enough=1.2,
    )
    assert faster >= 1.2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_joint_step_at_the_published_sizes_is_not_slower_than_the_plain_one(tmp_path):
    """Maps of 1024, 512 and 256 channels at 32×32, chains of 40 and 60 steps, 2 images of the 100 that a batch has.
    Our step also trains an inference network, here at every fourth step as the parameter for this says."""
    hierarchy, prior = model((3, 32, 32), PUBLISHED)
    pixels, settings = torch.rand(2, 3, 32, 32, generator=make_rng("x")) * 2 - 1, joint_settings(2, 40, 60)
    groups = [
        ParameterGroup(list(hierarchy.parameters()), 1e-4, 0.0),
        ParameterGroup(list(prior.parameters()), 2e-5, 0.0),
    ]
    rng = make_rng("noise")
    both = nn.ModuleDict({"hierarchy": hierarchy, "prior": prior})
    loss = LOSSES[settings.method](prior, pixels, settings, rng)
    trainer = Trainer(both, loss, settings, TrainingRun("step", StateFile(tmp_path, {}), rng), groups)
    faster = quickest(trainer.advance, plain.joint_step(hierarchy, prior, settings, pixels, rng), 1.0, rounds=8)
    assert faster >= 1.0
