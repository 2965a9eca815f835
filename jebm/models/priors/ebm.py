"""The joint EBM prior: one energy-based density over all layers."""

from __future__ import annotations

import torch

from jebm.config.types import EnergyBlock
from jebm.models.backbones.base import Hierarchy, TopDown
from jebm.models.priors.base import EnergyPrior


class JointPrior(EnergyPrior):
    """The joint EBM prior p(z) ∝ exp(f(z)) p_β(z): tilt(ε) = f(T(ε)) (arXiv 2306.06323, eq. 7).

    In ε-space log p(ε) = f(T(ε)) + log N(ε; 0, I) + const. The expression f(T(ε)) + log p_β(T(ε)) is a different
    density, because it omits the Jacobian of T.
    """

    fit = "jebm.training.ebm:fit"
    by_gradient = True
    trained_with_chain = True
    contrastive = True
    joint_training = True

    def __init__(self, hierarchy: Hierarchy, *, energy: EnergyBlock):
        super().__init__(hierarchy, energy)

    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        return self.energy(self.hierarchy.top_down_flat(eps))

    def tilt_after(self, eps: torch.Tensor, top: TopDown) -> torch.Tensor:
        return self.energy(top)
