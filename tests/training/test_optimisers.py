"""Each optimiser's steps by its equations, and that the published settings can be written down."""

import pytest
import torch
from torch import nn
from toy import params

from jebm.config.read import canonical, parse_params
from jebm.config.training import Optimisation
from jebm.errors import ParamsError
from jebm.runtime.random import make_rng
from jebm.training.optimisers import ParameterGroup, build_optimizer
from jebm.training.schedules import learning_rate

LR, DECAY, BETAS, EPSILON = 0.03, 0.2, (0.8, 0.95), 1e-3


def settings(**changes):
    return Optimisation(**{"steps": 5, "batch_size": 1, "learning_rate": LR} | changes)


def steps(name, count=4):
    """Weights after each step on gradients of a fixed sequence, and these gradients; float64."""
    rng = make_rng("gradients")
    weight = nn.Parameter(torch.randn(6, generator=rng).double())
    chosen = settings(optimizer=name, betas=list(BETAS), epsilon=EPSILON)
    optimizer = build_optimizer([ParameterGroup([weight], LR, DECAY)], chosen)
    path, gradients = [weight.detach().clone()], []
    for _ in range(count):
        weight.grad = torch.randn(6, generator=rng).double()
        gradients.append(weight.grad.clone())
        optimizer.step()
        path.append(weight.detach().clone())
    return path, gradients


def expected(name, start, gradients):
    """Kingma and Ba, 2015, algorithms 1 and 2; Loshchilov and Hutter, 2019, for AdamW."""
    weight, first, second, path = start, torch.zeros_like(start), torch.zeros_like(start), [start]
    for t, gradient in enumerate(gradients, 1):
        if name == "adamw":
            weight = weight * (1 - LR * DECAY)
        else:
            gradient = gradient + DECAY * weight
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        if name == "adamax":
            second = torch.maximum(BETAS[1] * second, gradient.abs() + EPSILON)
            scale = second
        else:
            second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
            scale = (second / (1 - BETAS[1] ** t)).sqrt() + EPSILON
        weight = weight - LR * first / (1 - BETAS[0] ** t) / scale
        path.append(weight)
    return path


@pytest.mark.parametrize("name", ["adamw", "adam", "adamax"])
def test_steps_are_those_of_the_equations(name):
    path, gradients = steps(name)
    for ours, theirs in zip(path, expected(name, path[0], gradients), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_decay_of_adam_is_no_decay_of_adamw():
    assert not torch.allclose(steps("adam")[0][-1], steps("adamw")[0][-1], atol=1e-3)


def test_defaults_leave_identities_alone():
    assert canonical(settings()) == {"steps": 5, "batch_size": 1, "learning_rate": LR}


def test_published_schedule_of_stage_1_can_be_written():
    """Linear warm-up over 5 of 400 epochs, then cosine from 1e-2 to 1e-4; an epoch is 195 batches of 256 here."""
    epoch = 195
    published = Optimisation(
        steps=400 * epoch,
        batch_size=256,
        optimizer="adamax",
        epsilon=1e-3,
        weight_decay=3e-4,
        learning_rate=1e-2,
        warmup_steps=5 * epoch,
        final_learning_rate=0.01,
    )
    rates = [learning_rate(step, published) for step in range(published.steps + 1)]
    assert rates[0] == pytest.approx(1e-2 / (5 * epoch))
    assert max(rates) == rates[5 * epoch] == 1e-2
    assert rates[-1] == pytest.approx(1e-4)
    assert rates[(5 + 395 // 2) * epoch] == pytest.approx((1e-2 + 1e-4) / 2, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_backbone/kl_balance": "scales"}, "kl_balance: 'scales' is unknown; did you mean 'scale'"),
        ({"train_backbone/kl_balance": 1}, "toy.train_backbone.kl_balance: 1 is unknown"),
        ({"train_prior/optimizer": "adammax"}, "toy.train_prior.optimizer: 'adammax' is unknown; did you mean"),
        ({"train_prior/betas": [0.9, 1.0]}, "toy.train_prior.betas.1: input should be less than 1"),
        ({"train_prior/betas": [0.9]}, "toy.train_prior.betas: must have at least 2 entries"),
        ({"train_backbone/epsilon": 0}, "toy.train_backbone.epsilon: input should be greater than 0"),
        ({"train_backbone/skip_gradient_norm": 10.0}, "toy.train_backbone.skip_gradient_norm: needs skip_non_finite"),
        (
            {"train_backbone/optimizer": "adamax", "train_backbone/fused": True},
            "fused: there is no fused adamax",
        ),
        (
            {"train_backbone/max_skipped_fraction": 1.5},
            "toy.train_backbone.max_skipped_fraction: input should be less than or equal to 1",
        ),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ParamsError) as error:
        parse_params(params({f"toy/{key}": value for key, value in changes.items()}))
    assert message in str(error.value)
