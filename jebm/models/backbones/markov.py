"""Hierarchies in which each layer depends only on the one above: p(z) = p(z_L) Π p(z_i | z_{i+1}), all z_i vectors.

This is the base of the backbones ``perceptron`` and ``convolutional``, which differ in the decoder, in the input of the
inference network, and in the bounds on the scales.
"""

from abc import abstractmethod

import torch
from torch import nn

from jebm.models.backbones.base import Hierarchy, Latents, Posterior, TopDown, kl_to_standard_normal, normal_log_prob


class MarkovHierarchy(Hierarchy):
    """p(z_i | z_{i+1}) = N(μ(z_{i+1}), σ(z_{i+1})²) and q(ε_i | ε_{>i}, x) = N(m, s²), with a network each."""

    generator_nets: nn.ModuleList
    """For each layer but the top one, bottom first: z_{i+1} → (μ, r), where σ is a function of r. Weight files
    contain the name of this attribute."""
    inference_nets: nn.ModuleList
    """For each layer, bottom first: (features of x, ε_L, …, ε_{i+1}) → (m, log s)."""

    @abstractmethod
    def _conditional(self, layer: int, above: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation of p(z_layer | z_{layer+1}); ``layer`` counts from 0."""

    def scale(self, raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """log σ as a function of the network's output r, and its derivative d log σ / dr.

        Gradients in closed form (:mod:`jebm.sampling.closed_form.gradients`) need it.

        Raises:
            NotImplementedError: the hierarchy does not implement it; gradients are then computed by autograd.
        """
        raise NotImplementedError

    def pixel_means(self) -> tuple[list[nn.Module], float | torch.Tensor] | None:
        """The modules that map z_1 to the mean of p(x | z), in order, and its standard deviation.

        None unless pixels are independent and normal.
        """
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
        """A draw from q(ε | x), given features of x, (batch, features)."""
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
