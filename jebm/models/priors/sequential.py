"""Sequential prior: an energy a layer, each under a normaliser of its own, given the layers above."""

from __future__ import annotations

import torch

from jebm.config.types import EnergyBlock
from jebm.models.backbones.base import Hierarchy, TopDown
from jebm.models.priors.base import EnergyPrior


class SequentialPrior(EnergyPrior):
    """p(ε) = Π_i exp(f_i(ε_i | ε_{>i})) N(ε_i; 0, I) / Z_i(ε_{>i}), f_i on the top-down pass down to layer i.

    The product of conditionals of NCP-VAE's hierarchical form (Aneja et al., 2021), its terms learned by maximum
    likelihood instead of classification. It is sampled from the top, a layer at a time. Its density needs every
    Z_i(ε_{>i}), and the sum of the f_i alone is the tilt of another density, the joint one: so this prior has no tilt.
    """

    evaluable = False
    sequential = True
    fit = "jebm.training.sequential:fit"
    by_gradient = True
    trained_with_chain = True

    def __init__(self, hierarchy: Hierarchy, *, energy: EnergyBlock):
        super().__init__(hierarchy, energy)

    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("the density of a sequential prior needs Z_i(ε_{>i}) of every layer: not known")

    def layer_tilt(self, above: TopDown, eps: torch.Tensor) -> torch.Tensor:
        """log p(ε_i | ε_{>i}) − log N(ε_i; 0, I) + log Z_i(ε_{>i}) = f_i, (batch,), nats; a *negative* energy.

        Args:
            above: the pass down to layer i + 1, fixed.
            eps: flat ε_i, (batch, dimensions of layer i). Only layer i is passed through.
        """
        number = self.hierarchy.layers - len(above.z)
        if not self.energy.has_layer(number):
            return eps.new_zeros(len(eps))
        return self.energy.term(number, self.descend(above, eps))

    def descend(self, above: TopDown, eps: torch.Tensor) -> TopDown:
        """The pass one layer further down, for flat ε_i."""
        shape = self.hierarchy.latent_shapes[self.hierarchy.layers - len(above.z) - 1]
        return self.hierarchy.descend(above, eps.reshape(-1, *shape))
