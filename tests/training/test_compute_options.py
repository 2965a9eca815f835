"""Options of the loop and of the device: parts of a batch, fused steps, half precision, and running out of memory."""

import pytest
import torch
from losses import FunctionLoss
from oracles import spec
from torch import nn

from jebm.config.components import build
from jebm.config.schema import Compute
from jebm.config.training import Optimisation, TrainBackbone
from jebm.errors import DivergedError, JebmError
from jebm.models.backbones.base import flatten
from jebm.models.nets import frozen
from jebm.models.precision import apply_layout_and_precision, in_bfloat16, networks
from jebm.runtime.memory import explain_out_of_memory
from jebm.runtime.random import make_rng
from jebm.training.loop import Trainer
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile

DATA = torch.randn(23, 3, generator=make_rng("loop data"))


class Run:
    """A tiny regression; ``disturb(step)`` returns a factor on the loss."""

    def __init__(self, folder, disturb=lambda step: 1.0, kind=Optimisation, **settings):
        rng = make_rng("compute options")
        self.module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.normal_(generator=rng)
        self.sizes, self.before = [], []

        def loss(step, batch):
            self.sizes.append(len(batch))
            self.before.append((step, self.weights.clone(), rng.get_state()))
            x = DATA[batch]
            value = (self.module(x) - x.sum(1, keepdim=True)).square().mean()
            return value * disturb(step), {"square": value.detach()}

        own = {"steps": 12, "batch_size": 10, "learning_rate": 0.05, "log_interval": 6} | settings
        run = TrainingRun("tiny run", StateFile(folder, {"parameters": "same"}), rng)
        self.trainer = Trainer(self.module, FunctionLoss(len(DATA), loss), kind(**own), run)

    @property
    def weights(self):
        return torch.cat([p.detach().flatten() for p in self.module.parameters()])


def folder(tmp_path, name):
    path = tmp_path / name
    path.mkdir()
    return path


@pytest.mark.parametrize("parts", [2, 3, 10, 50])
def test_accumulated_gradient_is_that_of_the_whole_batch(tmp_path, parts):
    whole = Run(folder(tmp_path, "whole"), clip_gradient_norm=0.5)
    cut = Run(folder(tmp_path, "parts"), clip_gradient_norm=0.5, accumulate=parts)
    for run in (whole, cut):
        run.trainer.train()
    torch.testing.assert_close(cut.weights, whole.weights, rtol=1e-4, atol=1e-5)
    assert max(cut.sizes) == -(-10 // min(parts, 10))
    assert sum(cut.sizes) == sum(whole.sizes) == 12 * 10
    for own, other in zip(cut.trainer.state.history, whole.trainer.state.history, strict=True):
        assert own == pytest.approx(other, rel=1e-3)


def test_a_fused_step_is_the_other_one_to_rounding(tmp_path):
    plain, fused = Run(folder(tmp_path, "a")), Run(folder(tmp_path, "b"), fused=True)
    for run in (plain, fused):
        run.trainer.train()
    torch.testing.assert_close(fused.weights, plain.weights, rtol=1e-4, atol=1e-6)


def test_nothing_is_updated_by_a_step_that_was_not_finite(tmp_path):
    """Steps 0 to 6 are good, 7 is not: weights, average and random numbers are those before it."""
    run = Run(tmp_path, lambda step: float("nan") if step == 7 else 1.0, fused=True, ema=0.5)
    with pytest.raises(DivergedError, match="loss is nan, gradient_norm is nan at step 8 of 12"):
        run.trainer.train()
    weights = next(entry for entry in run.before if entry[0] == 7)[1]
    assert torch.equal(run.weights, weights)
    assert run.trainer.state.step == 7
    good = Run(folder(tmp_path, "good"), fused=True, ema=0.5, steps=7, schedule="constant")
    spoil = lambda step: float("nan") if step == 7 else 1.0  # noqa: E731
    other = Run(folder(tmp_path, "bad"), spoil, fused=True, ema=0.5, schedule="constant")
    good.trainer.train()
    with pytest.raises(DivergedError):
        other.trainer.train()
    assert all(
        torch.equal(a, b) for a, b in zip(other.trainer.weights.average, good.trainer.weights.average, strict=True)
    )
    resumed = other.trainer.run.file.load()["state"]
    assert resumed["step"] == 7
    assert torch.equal(resumed["rngs"][0], next(entry for entry in other.before if entry[0] == 7)[2])


def exhaust(error):
    def disturb(step):
        raise error

    return disturb


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4000 bytes."),
    ],
)
def test_out_of_memory_says_what_to_lower(tmp_path, error):
    run = Run(tmp_path, exhaust(error), kind=TrainBackbone, kl_warmup=[[0.0, 0.0]], accumulate=2)
    with pytest.raises(JebmError) as caught:
        run.trainer.train()
    message = str(caught.value)
    assert "a step on 5 examples" in message
    assert "lower train_backbone.batch_size (now 10)" in message
    assert "raise train_backbone.accumulate (now 2)" in message
    assert str(error).splitlines()[0] in message
    assert "\n" not in message


def test_memory_that_really_runs_out_is_recognised():
    with pytest.raises(JebmError, match="a large tensor does not fit into memory: make it smaller"):  # noqa: SIM117
        with explain_out_of_memory("a large tensor", "make it smaller"):
            torch.empty(10**15)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"), explain_out_of_memory("x", "y"):
        raise RuntimeError("shape")


BACKBONES = [
    {"name": "convolutional", "latent_dims": [4, 3], "channels": [6, 5], "hidden": 8},
    {"name": "residual", "layers_per_scale": [1, 1], "resolutions": [4, 1], "channels": [6, 8], "latent_channels": 3},
]


@pytest.mark.parametrize("block", BACKBONES, ids=lambda block: block["name"])
def test_half_precision_is_of_networks_that_learn_alone(block):
    hierarchy = build("backbone", spec("backbone", **block), (3, 8, 8))
    hierarchy.initialise(make_rng("bf16"))
    x = torch.rand(4, 3, 8, 8, generator=make_rng("x")) * 2 - 1

    def bound():
        posterior = hierarchy.infer(x, make_rng("q"))
        assert all(part.dtype == torch.float32 for part in (*posterior.eps, *posterior.top.z, posterior.kl))
        return hierarchy.decode(posterior.top).log_prob(x), flatten(posterior.eps)

    exact = bound()
    with frozen(hierarchy):
        exact_frozen = bound()
    in_bfloat16(hierarchy)
    assert len(list(networks(hierarchy))) >= 4
    half = bound()
    assert half[0].dtype == torch.float32
    assert not torch.equal(half[1], exact[1])
    torch.testing.assert_close(half[1], exact[1], rtol=0.1, atol=0.1)
    with frozen(hierarchy):
        assert all(torch.equal(a, b) for a, b in zip(bound(), exact_frozen, strict=True))
    half[0].mean().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in hierarchy.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in hierarchy.parameters())


@pytest.mark.parametrize("block", BACKBONES, ids=lambda block: block["name"])
def test_channels_last_is_a_layout_and_nothing_else(block):
    hierarchy = build("backbone", spec("backbone", **block), (3, 8, 8))
    hierarchy.initialise(make_rng("layout"))
    x = torch.rand(4, 3, 8, 8, generator=make_rng("x")) * 2 - 1

    def log_px():
        posterior = hierarchy.infer(x, make_rng("q"))
        return hierarchy.decode(posterior.top).log_prob(x)

    expected = log_px()
    apply_layout_and_precision(hierarchy, Compute(channels_last=True))
    convolutions = [m for m in hierarchy.modules() if type(m) is nn.Conv2d and m.kernel_size != (1, 1)]
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)
    torch.testing.assert_close(log_px(), expected, rtol=1e-4, atol=1e-4)
