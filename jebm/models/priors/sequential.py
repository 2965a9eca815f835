"""Sequential prior: one energy per layer, each normalised separately given the layers above."""

from __future__ import annotations

import torch

from jebm.config.types import EnergyBlock
from jebm.models.backbones.base import Hierarchy, TopDown
from jebm.models.priors.base import EnergyPrior


class SequentialPrior(EnergyPrior):
    """p(ε) = Π_i exp(f_i(ε_i | ε_{>i})) N(ε_i; 0, I) / Z_i(ε_{>i}), with f_i on the top-down pass down to layer i.

    This is the product of conditionals of NCP-VAE's hierarchical form (Aneja et al., 2021), but trained by maximum
    likelihood instead of classification. It is sampled layer by layer from the top. Its density depends on all
    Z_i(ε_{>i}), which are unknown, and Σ_i f_i is the tilt of the joint prior instead. Therefore :meth:`tilt` is not
    available.
    """

    evaluable = False
    sequential = True
    fit = "jebm.training.sequential:fit"
    by_gradient = True
    estimators = ("short-run",)

    def __init__(self, hierarchy: Hierarchy, *, energy: EnergyBlock):
        super().__init__(hierarchy, energy)

    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("the density of a sequential prior depends on the unknown Z_i(ε_{>i})")

    def layer_tilt(self, above: TopDown, eps: torch.Tensor) -> torch.Tensor:
        """log p(ε_i | ε_{>i}) − log N(ε_i; 0, I) + log Z_i(ε_{>i}) = f_i, (batch,), nats; a *negative* energy.

        Args:
            above: the pass down to layer i + 1.
            eps: flat ε_i, (batch, dimensions of layer i).
        """
        number = self.hierarchy.layers - len(above.z)
        if not self.energy.has_layer(number):
            return eps.new_zeros(len(eps))
        return self.energy.term(number, self.descend(above, eps))

    def descend(self, above: TopDown, eps: torch.Tensor) -> TopDown:
        """Extend the pass by one layer, for flat ε_i."""
        shape = self.hierarchy.latent_shapes[self.hierarchy.layers - len(above.z) - 1]
        return self.hierarchy.descend(above, eps.reshape(-1, *shape))
