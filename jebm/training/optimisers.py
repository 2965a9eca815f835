"""The optimisers that ``optimizer:`` names, and what weight decay means in each.

``adamw`` shrinks the weights by lr·decay beside the step (Loshchilov and Hutter, 2019); ``adam`` and ``adamax`` add
decay·w to the gradient, an L2 penalty that the adaptive scale then divides like any other gradient. The published runs
of the deep hierarchy use the second kind: Adamax with epsilon 1e-3 and decay 3e-4 in stage 1, Adam with betas
(0.99, 0.999) and decay 3e-5 in stage 2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from jebm.config.training import Optimisation, TrainJoint

OPTIMISERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "adamax": torch.optim.Adamax}


class ParameterGroup(NamedTuple):
    """Parameters with a learning rate (the peak of the schedule) and a weight decay of their own."""

    parameters: list[nn.Parameter]
    learning_rate: float
    weight_decay: float


def joint_groups(hierarchy: nn.Module, prior: nn.Module, settings: TrainJoint) -> list[ParameterGroup]:
    """The hierarchy with its inference network, and the energies, each with the rate and decay that joint training
    gives it."""
    return [
        ParameterGroup(list(hierarchy.parameters()), settings.learning_rate, settings.weight_decay),
        ParameterGroup(list(prior.parameters()), settings.energy_learning_rate, settings.energy_weight_decay),
    ]


def build_optimizer(groups: Sequence[ParameterGroup], settings: Optimisation) -> torch.optim.Optimizer:
    """The optimiser of ``settings.optimizer`` over groups of parameters, with the settings' betas and epsilon."""
    return OPTIMISERS[settings.optimizer](
        [{"params": g.parameters, "lr": g.learning_rate, "weight_decay": g.weight_decay} for g in groups],
        betas=tuple(settings.betas),
        eps=settings.epsilon,
        **{"fused" if settings.fused else "foreach": True},
    )
