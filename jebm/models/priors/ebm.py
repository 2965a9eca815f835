"""The joint EBM prior: one energy-based density over all layers."""

from __future__ import annotations

import torch

from jebm.config.components import build
from jebm.config.types import EnergyBlock, OptionalBase
from jebm.models.backbones.base import Hierarchy, TopDown
from jebm.models.priors.base import EnergyPrior, Prior
from jebm.models.priors.gaussian import GaussianPrior


class JointPrior(EnergyPrior):
    """The joint EBM prior p(z) ∝ exp(f(z)) p_β(z): tilt(ε) = f(T(ε)) (arXiv 2306.06323, eq. 7).

    In ε-space log p(ε) = f(T(ε)) + log N(ε; 0, I) + const. The expression f(T(ε)) + log p_β(T(ε)) is a different
    density, because it omits the Jacobian of T.

    With another base p_0(ε) than N(0, I), p(ε) ∝ exp(f(T(ε))) p_0(ε), so that tilt(ε) = f(T(ε)) + log p_0(ε) −
    log N(ε; 0, I).

    Args:
        energy: f.
        base: p_0, the normalised density that f tilts; it is fitted first, and stays fixed while f is trained. ``null``
            is N(0, I).
        proposal: a normalised density close to the prior, for importance sampling (training, log Z, resampling) and
            independent moves of chains; it is fitted like the base. ``null`` is the base.
    """

    fit = "jebm.training.ebm:fit"
    by_gradient = True
    estimators = ("short-run", "persistent", "importance", "jarzynski")
    contrastive = True
    joint_training = True

    def __init__(
        self,
        hierarchy: Hierarchy,
        *,
        energy: EnergyBlock,
        base: OptionalBase = None,
        proposal: OptionalBase = None,
    ):
        super().__init__(hierarchy, energy)
        self.base: Prior = build("base", base, hierarchy) if base else GaussianPrior(hierarchy)
        self.own_proposal: Prior | None = build("base", proposal, hierarchy) if proposal else None

    @property
    def proposal(self) -> Prior | None:
        if self.own_proposal is not None:
            return self.own_proposal
        return None if self.tilts_normal else self.base

    @property
    def tilts_normal(self) -> bool:
        """Whether the base is N(0, I)."""
        return isinstance(self.base, GaussianPrior)

    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        return self.tilt_after(eps, self.hierarchy.top_down_flat(eps))

    def tilt_after(self, eps: torch.Tensor, top: TopDown) -> torch.Tensor:
        f = self.energy(top)
        return f if self.tilts_normal else f + self.base.tilt(eps)
