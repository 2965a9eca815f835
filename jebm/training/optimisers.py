"""The optimisers that ``optimizer`` names, and the meaning of weight decay in each.

``adamw`` multiplies the weights by 1 − lr·decay in each step (Loshchilov and Hutter, 2019). ``adam`` and ``adamax`` add
decay·w to the gradient: an L2 penalty, which is then divided by the adaptive scale like the rest of the gradient. The
published runs of the deep hierarchy use the second kind: Adamax with epsilon 1e-3 and decay 3e-4 in stage 1, Adam with
betas (0.99, 0.999) and decay 3e-5 in stage 2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from jebm.config.training import Optimisation, TrainJoint

OPTIMISERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "adamax": torch.optim.Adamax}


class ParameterGroup(NamedTuple):
    """Parameters with their own learning rate (the peak of the schedule) and weight decay."""

    parameters: list[nn.Parameter]
    learning_rate: float
    weight_decay: float


def joint_groups(hierarchy: nn.Module, prior: nn.Module, settings: TrainJoint) -> list[ParameterGroup]:
    """The two parameter groups of joint training: the hierarchy with its inference network, and the energies."""
    return [
        ParameterGroup(list(hierarchy.parameters()), settings.learning_rate, settings.weight_decay),
        ParameterGroup(list(prior.parameters()), settings.energy_learning_rate, settings.energy_weight_decay),
    ]


def build_optimizer(groups: Sequence[ParameterGroup], settings: Optimisation) -> torch.optim.Optimizer:
    """The optimiser that the settings name, with their betas and epsilon, over groups of parameters."""
    return OPTIMISERS[settings.optimizer](
        [{"params": g.parameters, "lr": g.learning_rate, "weight_decay": g.weight_decay} for g in groups],
        betas=tuple(settings.betas),
        eps=settings.epsilon,
        **{"fused" if settings.fused else "foreach": True},
    )
