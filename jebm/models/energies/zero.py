"""The joint prior with f = 0: the Gaussian hierarchy, but with the top-down pass and its gradient really computed."""

import torch
from torch import nn

from jebm.models.backbones.base import Hierarchy, TopDown
from jebm.models.energies.base import Energy
from jebm.models.priors.base import Prior
from jebm.models.priors.joint import JointPrior


class ZeroEnergy(Energy):
    """f(z) = 0 · Σ z: zero wherever z is finite, and a function of every latent."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleDict()

    def terms(self, top: TopDown) -> torch.Tensor:
        """The one term of f, (batch, 1), nats."""
        return 0 * sum(z.flatten(1).sum(1, keepdim=True) for z in top.z)


class ZeroPrior(JointPrior):
    """What every joint prior is before it has learned anything; what a chain on it does to the noise is the chain's
    own doing, not the energy's."""

    def __init__(self, hierarchy: Hierarchy):
        Prior.__init__(self, hierarchy)
        self.energy = ZeroEnergy()
