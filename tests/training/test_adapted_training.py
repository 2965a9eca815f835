"""Stage 2 with a step size that adapts, on the biased density for comparison, and with memory that does not grow."""

import os
import signal

import pytest
import torch
from funnel import Funnel
from oracles import SIGMAS, LinearHierarchy, joint_prior, spec
from toy import params

from jebm.config.read import parse_params
from jebm.config.training import TrainPrior
from jebm.errors import InterruptedRunError, ParamsError
from jebm.models.backbones.base import flatten
from jebm.models.backbones.perceptron import PerceptronHierarchy
from jebm.models.energies.zero import ZeroPrior
from jebm.models.priors.sequential import SequentialPrior
from jebm.runtime.random import make_rng
from jebm.sampling.langevin import Langevin
from jebm.sampling.run import run_chain
from jebm.sampling.samplers.mcmc import Mcmc
from jebm.sampling.spaces import SPACES
from jebm.training import ebm, sequential
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile

PIXELS = torch.rand(24, 1, 2, 2, generator=make_rng("pixels")) * 2 - 1


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


def settings(adapt=None, **changes):
    estimator = {"name": "short-run", "kernel": {"name": "pcnl", "step_size": 0.1}, "steps": 4} | (adapt or {})
    block = {"steps": 12, "batch_size": 8, "learning_rate": 0.05, "log_interval": 3, "estimator": estimator}
    return TrainPrior(**block | changes)


def fit(folder, stop_at=None, adapt=None, **changes):
    prior = joint_prior(Stopping(stop_at), hidden=4, depth=1).requires_grad_(True)
    adapt = {"target_acceptance": 0.7, "adaptation_steps": 8} if adapt is None else adapt
    run = TrainingRun("toy", StateFile(folder, {}), make_rng("fit"))
    history, facts, _ = ebm.fit(prior, {"train": PIXELS}, settings(adapt, **changes), run)
    return torch.cat([p.detach().flatten() for p in prior.parameters()]), history, facts


def test_size_is_in_history_and_record_and_stays_after_the_warm_up(tmp_path):
    _, history, facts = fit(tmp_path)
    sizes = {row["step"]: row["step_size"] for row in history}
    assert len({sizes[3], sizes[6], sizes[9]}) == 3
    assert sizes[9] == sizes[12] == pytest.approx(facts["step_size"])
    assert facts["step_size"] > 0.2  # from 0.1, where nearly all is accepted


def test_without_adaptation_history_and_record_are_as_ever(tmp_path):
    prior = joint_prior(Stopping(), hidden=4, depth=1).requires_grad_(True)
    run = TrainingRun("toy", StateFile(tmp_path, {}), make_rng("fit"))
    history, facts, _ = ebm.fit(prior, {"train": PIXELS}, settings(), run)
    assert "step_size" not in history[0]
    assert "step_size" not in facts


@pytest.mark.parametrize("call", [2, 7, 11])
def test_interrupted_run_goes_on_to_the_same_bits(tmp_path, call):
    changes = {"optimizer": "adam", "betas": [0.99, 0.999], "weight_decay": 3e-5, "skip_non_finite": 2}
    weights, history, facts = fit(tmp_path / "a", **changes)
    with pytest.raises(InterruptedRunError):
        fit(tmp_path / "b", stop_at=call, **changes)
    resumed, resumed_history, resumed_facts = fit(tmp_path / "b", **changes)
    assert torch.equal(resumed, weights)
    assert resumed_history == history
    assert resumed_facts["step_size"] == facts["step_size"]


def test_sequential_priors_adapt_one_size_for_all_layers():
    prior = SequentialPrior(Stopping(), energy=spec("energy", name="layerwise", hidden=4, depth=1))
    prior.initialise(make_rng("sequential"))
    loss = sequential.LayerwiseLoss(prior, PIXELS, settings({"adaptation_steps": 3}), make_rng("layers"))
    _, first = loss(0, torch.arange(8))
    _, second = loss(1, torch.arange(8))
    assert float(first["step_size"]) == pytest.approx(0.1)
    assert float(second["step_size"]) > 0.1
    assert loss.estimator.kernel.done == 2


def test_parts_of_a_batch_adapt_one_after_the_other(tmp_path):
    """Two runs of the chain per step: eight of them are four training steps."""
    _, history, facts = fit(tmp_path, accumulate=2)
    sizes = {row["step"]: row["step_size"] for row in history}
    assert sizes[3] != sizes[6] == sizes[9] == sizes[12] == pytest.approx(facts["step_size"])


# The biased density --------------------------------------------------------------------------------------------------


def test_negatives_of_the_biased_density_drift_and_those_of_the_exact_one_do_not():
    """f = 0 on a funnel; energies trained on such negatives would learn to undo the drift."""
    prior, ends = ZeroPrior(Funnel()), {}
    for space in ("whitened", "whitened-biased"):
        sampler = Mcmc(kernel=spec("kernel", name="langevin", step_size=0.5), steps=60, chains=1000, space=space)
        ends[space] = sampler.draw(prior, 2, 2000, make_rng("ends"), lambda what, done, total: None).eps
    noise = (Langevin(step_size=0.5).variance_on_normal(60) / 2000) ** 0.5
    assert (ends["whitened"].mean(0).abs() < SIGMAS * noise).all()
    assert abs(float(ends["whitened-biased"][:, 1].mean()) + 1) < SIGMAS * noise


def test_training_chain_may_run_on_the_biased_density():
    """The same draws but for the drift: at f = 0 the first negatives differ by what −Σ log σ adds."""
    prior = joint_prior(Stopping(), hidden=4, depth=1).requires_grad_(True)
    prior.initialise(make_rng("energy"))
    prior.energy.nets["2"][-1].weight.data.normal_(generator=make_rng("w"))
    values = {}
    for space in ("whitened", "whitened-biased"):
        chain = {"name": "short-run", "kernel": {"name": "langevin", "step_size": 0.3}, "steps": 5, "space": space}
        loss = ebm.LikelihoodLoss(prior, PIXELS, settings(estimator=chain), make_rng("loss"))
        values[space] = loss(0, torch.arange(8))[1]
    assert torch.equal(values["whitened"]["f_posterior"], values["whitened-biased"]["f_posterior"])
    assert not torch.allclose(values["whitened"]["f_prior"], values["whitened-biased"]["f_prior"])


# Memory --------------------------------------------------------------------------------------------------------------


class Held:
    """Counts the bytes that autograd holds for backward passes, and remembers the most."""

    def __init__(self):
        self.now = self.most = 0

    def pack(self, tensor):
        return Packed(self, tensor)

    def watch(self):
        return torch.autograd.graph.saved_tensors_hooks(self.pack, lambda packed: packed.tensor)


class Packed:
    def __init__(self, held, tensor):
        self.held, self.tensor, self.size = held, tensor, tensor.numel() * tensor.element_size()
        held.now += self.size
        held.most = max(held.most, held.now)

    def __del__(self):
        self.held.now -= self.size


def most_held(prior, steps, space="whitened"):
    held, start = Held(), torch.randn(16, prior.hierarchy.dimensions, generator=make_rng("held"))
    with held.watch():
        target = SPACES[space](prior.hierarchy, prior).target()
        run_chain(Langevin(step_size=0.1), target, start, steps, make_rng("held chain"))
    assert held.now == 0  # nothing of the graphs outlives the chain
    return held.most


@pytest.mark.parametrize("space", ["whitened", "whitened-biased"])
def test_graphs_of_a_chain_take_the_memory_of_one_step(space):
    prior = joint_prior(Stopping().requires_grad_(False), hidden=4, depth=1)
    prior.energy.initialise(make_rng("energy"))
    assert most_held(prior, 30, space) == most_held(prior, 2, space) > 0


def test_chain_that_kept_its_graphs_would_be_seen():
    """The instrument itself: a transcription that differentiates through its own steps holds all of them."""
    hierarchy, most = LinearHierarchy(), []
    for steps in (2, 20):
        held, x = Held(), torch.randn(16, hierarchy.dimensions, generator=make_rng("held")).requires_grad_(True)
        with held.watch():
            for _ in range(steps):
                value = -flatten(hierarchy.top_down_flat(x).z).square().sum()
                x = x + 0.01 * torch.autograd.grad(value, x, create_graph=True)[0]
        most.append(held.most)
    assert most[1] > 5 * most[0]


# Mistakes ------------------------------------------------------------------------------------------------------------

KERNEL = {"name": "pcnl", "step_size": 0.3}
LOOSE = {"name": "langevin", "step_size": 0.3}
SAMPLER = {"name": "mcmc", "kernel": KERNEL, "steps": 20, "step_size": "adapted"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_prior/estimator/adaptation_steps": 11},
            "train_prior.estimator.adaptation_steps: is 11, training has 10 steps",
        ),
        ({"train_prior/estimator/target_acceptance": 1.1}, "input should be less than or equal to 1"),
        ({"train_prior/estimator/target": 5}, "train_prior.estimator.target: unknown key"),
        (
            {"train_prior/estimator": {"name": "short-run", "kernel": LOOSE, "steps": 5, "adaptation_steps": 5}},
            "train_prior.estimator.kernel.adjusted: adaptation_steps needs a kernel with a Metropolis test",
        ),
        (
            {"draw_samples/sampler": SAMPLER},
            "draw_samples.sampler.step_size: 'adapted' needs train_prior.estimator.adaptation_steps",
        ),
        (
            {
                "train_prior/estimator/adaptation_steps": 5,
                "draw_samples/sampler": SAMPLER | {"kernel": LOOSE | {"adjusted": True}},
                "variants/gaussian/prior": {"name": "ebm"},
            },
            "sampler.step_size: was adapted for the kernel 'pcnl' of train_prior.estimator, not for 'langevin'",
        ),
        ({"train_prior/max_energy_gap": 0}, "train_prior.max_energy_gap: input should be greater than 0"),
        (
            {"train_prior/estimator/space": "biased"},
            "train_prior.estimator.space: 'biased' is unknown; allowed: whitened, z, whitened-biased",
        ),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ParamsError) as error:
        parse_params(params({f"toy/{key}": value for key, value in changes.items()}))
    assert message in str(error.value)


def test_biased_density_needs_an_energy_of_z():
    ncp = {"prior": {"name": "ncp", "energy": {"name": "layerwise"}}, "train_prior": {"estimator": None}}
    changes = {
        "toy/variants/joint": ncp,
        "toy/variants/joint-k40": ncp,
        "toy/draw_samples/sampler": {"name": "mcmc", "kernel": KERNEL, "steps": 5, "space": "whitened-biased"},
    }
    with pytest.raises(ParamsError, match=r"draw_samples.sampler.space: 'whitened-biased' needs the prior 'ebm'"):
        parse_params(params(changes))
