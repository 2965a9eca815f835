"""The joint prior with f = 0: the Gaussian hierarchy, sampled by the same computations as any joint prior."""

import torch
from torch import nn

from jebm.models.backbones.base import Hierarchy, TopDown
from jebm.models.energies.base import Energy
from jebm.models.priors.base import Prior
from jebm.models.priors.ebm import JointPrior
from jebm.models.priors.gaussian import GaussianPrior


class ZeroEnergy(Energy):
    """f(z) = 0 · Σ z: zero if z is finite. It depends on every latent, so the gradient runs through the whole pass."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleDict()

    def terms(self, top: TopDown) -> torch.Tensor:
        """The single term of f, (batch, 1), nats."""
        return 0 * sum(z.flatten(1).sum(1, keepdim=True) for z in top.z)


class ZeroPrior(JointPrior):
    """A joint prior before training. Its density is N(0, I), so a deviation of a chain's end points from it is an error
    of the chain."""

    def __init__(self, hierarchy: Hierarchy):
        Prior.__init__(self, hierarchy)
        self.energy, self.base, self.own_proposal = ZeroEnergy(), GaussianPrior(hierarchy), None
