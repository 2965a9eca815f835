"""Hierarchies in which each layer is fed by the one above alone: p(z) = p(z_L) Π p(z_i | z_{i+1}), all vectors.

What the plain chain and the convolutional generator share; they differ in the decoder, in what inference sees of an
image, and in how the scales are bounded.
"""

from abc import abstractmethod

import torch
from torch import nn

from jebm.models.backbones.base import Hierarchy, Latents, Posterior, TopDown, kl_to_standard_normal, normal_log_prob


class MarkovHierarchy(Hierarchy):
    """p(z_i | z_{i+1}) = N(μ(z_{i+1}), σ(z_{i+1})²) and q(ε_i | ε_{>i}, x) = N(m, s²), by a network each."""

    generator_nets: nn.ModuleList
    """For each layer but the top one, bottom first, z_{i+1} → μ and what σ is made of."""
    inference_nets: nn.ModuleList
    """For each layer, bottom first, (features of x, ε_L, …, ε_{i+1}) → m and log s."""

    @abstractmethod
    def _conditional(self, layer: int, above: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation of p(z_layer | z_{layer+1}); ``layer`` counts from 0."""

    def scale(self, raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """log σ for what a network of p(z_i | z_{i+1}) puts out beside the mean, and its derivative: all that
        :mod:`jebm.sampling.closed_form.gradients` has to know of the bounds on σ.

        Raises:
            NotImplementedError: this hierarchy has none to tell; its chains are left to autograd.
        """
        raise NotImplementedError

    def pixel_means(self) -> tuple[list[nn.Module], float | torch.Tensor] | None:
        """Modules that lead from z_1 to the mean of p(x | z), one after the other, and its standard deviation, where
        pixels are independent and normal."""
        return None

    def descend(self, above: TopDown, eps: torch.Tensor) -> TopDown:
        if not above.z:
            return TopDown((eps,), (eps,))
        mean, log_sd = self._conditional(self.layers - len(above.z) - 1, above.z[0])
        z = (mean + torch.exp(log_sd) * eps, *above.z)
        return TopDown(z, z)

    def condition(self, z: Latents) -> tuple[TopDown, torch.Tensor]:
        zero = torch.zeros_like(z[-1])
        terms = [normal_log_prob(z[-1], zero, zero)]
        for layer in reversed(range(self.layers - 1)):
            terms.insert(0, normal_log_prob(z[layer], *self._conditional(layer, z[layer + 1])))
        return TopDown(z, z), torch.stack(terms, 1)

    def whiten(self, z: Latents) -> Latents:
        eps = [z[-1]]
        for layer in reversed(range(self.layers - 1)):
            mean, log_sd = self._conditional(layer, z[layer + 1])
            eps.insert(0, (z[layer] - mean) * torch.exp(-log_sd))
        return tuple(eps)

    def infer_from(self, features: torch.Tensor, rng: torch.Generator) -> Posterior:
        """A draw of q(ε | x) for what is known of x, (batch, features)."""
        context, eps, log_q, kl = features, [], [], []
        for layer in reversed(range(self.layers)):
            mean, log_sd = self.inference_nets[layer](context).chunk(2, dim=1)
            noise = torch.randn(mean.shape, generator=rng, device=mean.device)
            draw = mean + torch.exp(log_sd) * noise
            log_q.insert(0, normal_log_prob(draw, mean, log_sd))
            kl.insert(0, kl_to_standard_normal(mean, log_sd))
            eps.insert(0, draw)
            context = torch.cat([context, draw], dim=1)
        top = self.top_down(tuple(eps))
        return Posterior(tuple(eps), top, torch.stack(log_q, 1), torch.stack(kl, 1))
