"""The interface of backbones, which energies, samplers, training and metrics use.

Latents are tuples of tensors (batch, *shape), bottom first. In whitened space ε every layer is standard normal under
the Gaussian hierarchy, and z = T(ε) with z_i = μ_i(z_{>i}) + σ_i(z_{>i}) ε_i. Chains run on flat ε, (batch,
dimensions): the concatenation of all layers, bottom first.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import nn

Latents = tuple[torch.Tensor, ...]

LOG_2PI = math.log(2 * math.pi)


class TopDown(NamedTuple):
    """The result of a top-down pass through all layers, or through the upper layers only."""

    z: Latents
    """The latents, bottom first."""
    context: Latents
    """For each layer the features after z_i has been added; they depend on z_i … z_L. In a Markov hierarchy, in which
    each layer depends only on the one above, the context is z_i itself."""

    def above(self, layer: int) -> "TopDown":
        """The part of the pass down to ``layer``, included (0 is the bottom layer); empty for the number of layers."""
        return TopDown(self.z[layer:], self.context[layer:])


EMPTY = TopDown((), ())
"""The top-down pass before the top layer."""


class Posterior(NamedTuple):
    """A draw from q(ε | x) with its densities per layer, bottom first."""

    eps: Latents
    top: TopDown
    """The top-down pass of the draw."""
    log_q: torch.Tensor
    """(batch, layers), nats: log q(ε_i | ε_{>i}, x)."""
    kl: torch.Tensor
    """(batch, layers), nats: KL(q(ε_i | ε_{>i}, x) ‖ N(0, I)), exact given ε_{>i}; the Jacobian of T cancels."""


class Hierarchy(nn.Module, ABC):
    """p(z) = N(z_L; 0, I) Π N(z_i; μ_i(z_{>i}), σ_i(z_{>i})²), p(x | z), and q(z | x) (arXiv 2306.06323, eq. 3–5)."""

    latent_shapes: tuple[tuple[int, ...], ...]
    """Shape of each layer without the batch, bottom first."""
    image_shape: tuple[int, ...]
    has_batch_norm = False
    """Whether it has batch norm, whose statistics can be computed anew, and penalties on it and on convolutions."""
    levels: int | None = None
    """Number of integer levels if p(x | z) is discrete; None if it is a density."""
    min_sigma: float = 0.0
    """A lower bound of all σ_i(z_{>i})."""

    @property
    def context_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each layer's context without the batch, bottom first."""
        return self.latent_shapes

    def descend(self, above: TopDown, eps: torch.Tensor) -> TopDown:
        """Extend a top-down pass by one layer.

        A hierarchy implements this, or :meth:`top_down` as a whole; in that case its layers can't be sampled one by
        one.

        Args:
            above: the pass through the layers above (``EMPTY`` for the top layer).
            eps: ε of the next layer, (batch, *shape).
        """
        raise NotImplementedError(f"{type(self).__name__} can't descend layer by layer")

    def top_down(self, eps: Latents) -> TopDown:
        """The top-down pass of ε, whose latents are z = T(ε)."""
        return reduce(self.descend, reversed(eps), EMPTY)

    @abstractmethod
    def condition(self, z: Latents) -> tuple[TopDown, torch.Tensor]:
        """The top-down pass through given z, and log p(z_i | z_{>i}) of each layer, (batch, layers), nats."""

    @abstractmethod
    def decode(self, top: TopDown) -> torch.distributions.Distribution:
        """p(x | z), with ``log_prob(x)`` (batch,), nats, and ``mean`` (batch, *image_shape), pixels in [−1, 1].

        It is a distribution of torch or a :class:`~jebm.models.likelihoods.base.PixelDistribution`.
        """

    @abstractmethod
    def infer(self, x: torch.Tensor, rng: torch.Generator) -> Posterior:
        """A reparameterised draw from q(ε | x), for images (batch, *image_shape)."""

    @abstractmethod
    def initialise(self, rng: torch.Generator) -> None:
        """Initialise all parameters; must be called before training."""

    def inference_modules(self) -> list[nn.Module]:
        """The modules that only q(z | x) uses; all other parameters are generative.

        Only joint training by MCMC distinguishes the two.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define its inference modules")

    def inference_parameters(self) -> list[nn.Parameter]:
        """The parameters ω of q(z | x)."""
        return [parameter for module in self.inference_modules() for parameter in module.parameters()]

    def generative_parameters(self) -> list[nn.Parameter]:
        """The parameters β of p(z) and p(x | z)."""
        inference = {id(parameter) for parameter in self.inference_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in inference]

    @property
    def layers(self) -> int:
        return len(self.latent_shapes)

    @property
    def layer_dims(self) -> list[int]:
        return [math.prod(shape) for shape in self.latent_shapes]

    @property
    def dimensions(self) -> int:
        """Total number of latent dimensions."""
        return sum(self.layer_dims)

    def max_batch_size(self, most: int = 2000) -> int:
        """Largest number of images that are inferred or decoded in one batch outside training: at most ``most``, fewer
        for large images, because feature maps take hundreds of numbers per pixel."""
        return max(1, min(most, 2**21 // math.prod(self.image_shape)))

    def split(self, flat: torch.Tensor) -> Latents:
        """(batch, dimensions) → one tensor per layer."""
        return split(flat, self.latent_shapes)

    def top_down_flat(self, eps: torch.Tensor) -> TopDown:
        """The top-down pass of flat ε, (batch, dimensions)."""
        return self.top_down(self.split(eps))

    def transform(self, eps: Latents) -> Latents:
        """z = T(ε)."""
        return self.top_down(eps).z

    def whiten(self, z: Latents) -> Latents:
        """ε = T⁻¹(z). z_i is affine in ε_i, so passes with ε_i = 0 and ε_i = 1 give its mean and its scale."""
        above, eps = EMPTY, []
        for layer in reversed(z):
            zero = torch.zeros_like(layer)
            mean = self.descend(above, zero).z[0]
            eps.insert(0, (layer - mean) / (self.descend(above, zero + 1).z[0] - mean))
            above = self.descend(above, eps[0])
        return tuple(eps)

    def log_prob(self, z: Latents) -> torch.Tensor:
        """log p(z) of the Gaussian hierarchy, (batch,), nats."""
        return self.condition(z)[1].sum(1)


def split(flat: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> Latents:
    """(batch, Σ sizes) → one tensor (batch, *shape) per shape."""
    parts = flat.split([math.prod(shape) for shape in shapes], dim=1)
    return tuple(part.reshape(len(flat), *shape) for part, shape in zip(parts, shapes, strict=True))


def flatten(latents: Latents) -> torch.Tensor:
    """One tensor per layer → (batch, dimensions)."""
    return torch.cat([layer.flatten(1) for layer in latents], dim=1)


def standard_normal_log_prob(eps: torch.Tensor) -> torch.Tensor:
    """log N(ε; 0, I), summed over all dimensions but the batch, (batch,), nats."""
    eps = eps.flatten(1)
    return -0.5 * (eps.square().sum(1) + eps.shape[1] * LOG_2PI)


def normal_log_prob(value: torch.Tensor, mean: torch.Tensor, log_sd: torch.Tensor) -> torch.Tensor:
    """log N(value; mean, exp(log_sd)²), summed over all dimensions but the batch, (batch,), nats."""
    terms = -0.5 * ((value - mean) * torch.exp(-log_sd)).square() - log_sd - 0.5 * LOG_2PI
    return terms.flatten(1).sum(1)


def kl_to_standard_normal(mean: torch.Tensor, log_sd: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, exp(log_sd)²) ‖ N(0, I)), summed over all dimensions but the batch, (batch,), nats."""
    return (0.5 * (mean.square() + torch.exp(2 * log_sd) - 1) - log_sd).flatten(1).sum(1)
