"""Energies at several levels of noise, learned by recovery likelihood (Gao et al., 2021; for latents of a hierarchy
Cui and Han, arXiv 2405.13910)."""

from __future__ import annotations

import math

import torch
from torch import nn

from jebm.config.components import build
from jebm.config.types import Count, EnergyBlock, OptionalBase
from jebm.models.backbones.base import Hierarchy
from jebm.models.energies.base import Energy
from jebm.models.priors.base import EnergyPrior, Prior
from jebm.models.priors.ebm import JointPrior
from jebm.models.priors.gaussian import GaussianPrior


class RecoveryPrior(JointPrior):
    """p_t(ε_t) ∝ exp(f_t(T(ε_t))) N(ε_t; 0, I) at levels t = 0 … T − 1 of noise; level T is N(0, I).

    The noise keeps N(0, I): ε_{t+1} = a_t ε_t + s_t ξ with s_t² = 1 − a_t². Therefore the distribution of a level given
    the next one is a tilt of a standard normal η, without any approximation:

        ε_t = a_t ε_{t+1} + s_t η,    p(η | ε_{t+1}) ∝ exp(f_t(T(a_t ε_{t+1} + s_t η))) N(η; 0, I).

    The share of the data in the variance of level t is cos²(π t / 2T). It ends at 0: level T is N(0, I) exactly.

    The sampler ``levels`` draws level by level, which is how the prior is meant to be used. The density of this prior
    (:meth:`tilt`, log Z, the bounds, and chains on all latents at once) is that of level 0, p_0. Draws by levels have
    this density only if the energies of all levels agree and all chains converge.

    Args:
        energy: f_t; each level has its own networks.
        levels: T.
        proposal: a normalised density close to p_0, for log Z and resampling; ``null`` is N(0, I). Training does not
            use it.
    """

    fit = "jebm.training.recovery:fit"
    estimators = ("short-run",)
    contrastive = False
    joint_training = False
    by_levels = True
    """It is sampled by a chain on each level of noise in turn, by the sampler ``levels``."""

    def __init__(self, hierarchy: Hierarchy, *, energy: EnergyBlock, levels: Count = 3, proposal: OptionalBase = None):
        EnergyPrior.__init__(self, hierarchy, energy)
        self.base: Prior = GaussianPrior(hierarchy)
        self.own_proposal: Prior | None = build("base", proposal, hierarchy) if proposal else None
        self.levels = levels
        self.noisy = nn.ModuleList(build("energy", energy, hierarchy) for _ in range(levels - 1))

    def initialise(self, rng: torch.Generator) -> None:
        for level in range(self.levels):
            self.energy_at(level).initialise(rng)

    def energy_at(self, level: int) -> Energy:
        """f_t; level 0 is the data."""
        return self.noisy[level - 1] if level else self.energy

    def data_share(self, level: int) -> float:
        """The share of the data in the variance of a level, cos²(π t / 2T)."""
        return math.cos(math.pi / 2 * level / self.levels) ** 2 if level < self.levels else 0.0

    def kept(self, level: int) -> float:
        """a_t, the factor of ε_t in ε_{t+1}."""
        return math.sqrt(self.data_share(level + 1) / self.data_share(level))

    def at(self, level: int, above: torch.Tensor, eta: torch.Tensor) -> torch.Tensor:
        """ε_t = a_t ε_{t+1} + s_t η, flat, (batch, dimensions)."""
        kept = self.kept(level)
        return kept * above + math.sqrt(1 - kept**2) * eta

    def tilt_at(self, level: int, eps: torch.Tensor) -> torch.Tensor:
        """f_t(T(ε_t)) of flat ε_t, (batch,), nats; a *negative* energy."""
        return self.energy_at(level)(self.hierarchy.top_down_flat(eps))
