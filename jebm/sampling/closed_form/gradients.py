"""Gradients of the log density of a prior or a posterior in closed form, without autograd.

They exist for Markov hierarchies (:class:`jebm.models.backbones.markov.MarkovHierarchy`) and energies on concatenated
latents, if all networks are stacks of known layers. The result equals that of autograd up to rounding, without the cost
of building a graph. If there is no closed form, the functions here return None, and gradients are computed by autograd.

f is a *negative* energy: high means likely. μ_i and r_i are functions of z_{i+1}, log σ_i is a function of r_i, and l
is its derivative. The gradients follow from these derivatives, with z_i = μ_i + σ_i ε_i and ρ_i = (z_i − μ_i)/σ_i:

    whitened   ∂f/∂ε_i = σ_i ∂f/∂z_i       ∂f/∂μ_i = ∂f/∂z_i        ∂f/∂r_i = ∂f/∂z_i σ_i ε_i l
    z          ∂log p/∂z_i = −ρ_i/σ_i      ∂log p/∂μ_i = ρ_i/σ_i    ∂log p/∂r_i = (ρ_i² − 1) l
"""

from collections.abc import Callable

import torch

from jebm.config.types import Gradients, LatentSpace
from jebm.models.backbones.base import LOG_2PI, Hierarchy, standard_normal_log_prob
from jebm.models.backbones.markov import MarkovHierarchy
from jebm.models.energies.base import Energy
from jebm.models.priors.base import Prior
from jebm.models.priors.ebm import JointPrior
from jebm.sampling.closed_form.stacks import Stack, compile_stack
from jebm.sampling.target import Target

FlatFunction = Callable[[torch.Tensor, bool], tuple[torch.Tensor | None, torch.Tensor]]
"""x (batch, dimensions) → the value of a function (batch,), nats, and its gradient, of the shape of x. The flag says
whether the value is needed; if not, it may be None."""
LatentFunction = Callable[[list[torch.Tensor], bool], tuple[torch.Tensor | None, list[torch.Tensor]]]
"""As ``FlatFunction``, for a list of latents, bottom first, and the list of gradients with respect to them."""


def prior_gradient(prior: Prior, space: LatentSpace = "whitened") -> FlatFunction | None:
    """The tilt f(T(ε)) and its gradient in whitened space, or f(z) + log p_β(z) and its gradient in z-space."""
    if not isinstance(prior, JointPrior) or not prior.tilts_normal:
        return None
    energy, layers = _energy(prior.energy, prior.hierarchy), _conditionals(prior.hierarchy)
    if energy is None or layers is None:
        return None
    return _whitened(layers, energy) if space == "whitened" else _latent(layers, energy)


def prior_target(prior: Prior, gradients: Gradients) -> Target:
    """The prior in whitened space as the target of a chain."""
    if gradients == "autograd":
        return Target(prior.tilt, prior=prior)
    return Target(prior.tilt, closed_form=prior_gradient(prior), lean=True, prior=prior)


def posterior_gradient(
    hierarchy: Hierarchy, prior: Prior, x: torch.Tensor, space: LatentSpace = "whitened"
) -> FlatFunction | None:
    """As :func:`prior_gradient`, plus log p(x | z_1) for images x (batch, *image_shape), with one chain per image."""
    if not isinstance(prior, JointPrior) or not prior.tilts_normal:
        return None
    pixels, energy, layers = _pixels(hierarchy, x), _energy(prior.energy, hierarchy), _conditionals(hierarchy)
    if pixels is None or energy is None or layers is None:
        return None

    def both(z: list[torch.Tensor], with_value: bool) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        value, gradients = energy(z, with_value)
        log_px, gradient = pixels(z[0], with_value)
        return value + log_px if with_value else None, [gradients[0] + gradient, *gradients[1:]]

    return _whitened(layers, both) if space == "whitened" else _latent(layers, both)


class Conditionals:
    """The networks of p(z_i | z_{i+1}) as stacks, bottom first, and the function from their outputs to scales."""

    def __init__(self, hierarchy: MarkovHierarchy, stacks: list[Stack]):
        self.scale, self.stacks, self.dims = hierarchy.scale, stacks, hierarchy.layer_dims

    def evaluate(self, layer: int, above: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list]:
        """μ, log σ and d log σ / dr of a layer (0 is the bottom layer), and the values that its stack has saved."""
        out, saved = self.stacks[layer].forward(above)
        mean, raw = out.chunk(2, dim=1)
        return mean, *self.scale(raw), saved


def _conditionals(hierarchy: Hierarchy) -> Conditionals | None:
    if not isinstance(hierarchy, MarkovHierarchy):
        return None
    stacks = [compile_stack([net]) for net in hierarchy.generator_nets]
    known = type(hierarchy).scale is not MarkovHierarchy.scale
    return Conditionals(hierarchy, stacks) if known and None not in stacks else None


def _energy(energy: Energy, hierarchy: Hierarchy) -> LatentFunction | None:
    """The function f(z) with its gradients."""
    term_inputs = energy.term_inputs(hierarchy.layers) if isinstance(energy, Energy) else None
    if term_inputs is None:
        return None
    terms = [(term_inputs[name], compile_stack([net])) for name, net in energy.nets.items()]
    if any(stack is None for _, stack in terms):
        return None
    dims = hierarchy.layer_dims

    def value_and_gradients(z: list[torch.Tensor], with_value: bool) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        total, gradients = None, [None] * len(z)
        for layers, stack in terms:
            value, gradient = stack.value_and_gradient(_side_by_side(z, layers), with_value)
            total = value if total is None or not with_value else total + value
            for layer, own in zip(layers, gradient.split([dims[i] for i in layers], 1), strict=True):
                gradients[layer] = own if gradients[layer] is None else gradients[layer] + own
        return total, [torch.zeros_like(x) if g is None else g for x, g in zip(z, gradients, strict=True)]

    return value_and_gradients


def _side_by_side(z: list[torch.Tensor], layers: tuple[int, ...]) -> torch.Tensor:
    return z[layers[0]] if len(layers) == 1 else torch.cat([z[i] for i in layers], 1)


def _pixels(hierarchy: Hierarchy, x: torch.Tensor) -> FlatFunction | None:
    """The function log p(x | z_1) of z_1 with its gradient, for independent normal pixels."""
    known = hierarchy.pixel_means() if isinstance(hierarchy, MarkovHierarchy) else None
    stack = known and compile_stack(known[0])
    if not stack:
        return None
    given = known[1]
    sigma = given.detach().to(x) if isinstance(given, torch.Tensor) else x.new_full((), given)
    constant = x[0].numel() * (torch.log(sigma) + 0.5 * LOG_2PI)

    def value_and_gradient(z: torch.Tensor, with_value: bool) -> tuple[torch.Tensor | None, torch.Tensor]:
        mean, saved = stack.forward(z)
        error = (x - mean) / sigma
        value = -0.5 * error.square().flatten(1).sum(1) - constant if with_value else None
        return value, stack.vjp(error / sigma, saved)

    return value_and_gradient


def _whitened(layers: Conditionals, of_latents: LatentFunction) -> FlatFunction:
    def value_and_gradient(eps: torch.Tensor, with_value: bool = True) -> tuple[torch.Tensor | None, torch.Tensor]:
        parts = eps.split(layers.dims, 1)
        z, passes = [parts[-1]], []
        for layer in reversed(range(len(layers.stacks))):
            mean, log_sd, slope, saved = layers.evaluate(layer, z[0])
            spread = torch.exp(log_sd).mul_(parts[layer])  # σ ε
            passes.insert(0, (log_sd, slope, spread, saved))
            z.insert(0, mean + spread)
        value, gradients = of_latents(z, with_value)
        for layer, (log_sd, slope, spread, saved) in enumerate(passes):
            own = gradients[layer]
            above = layers.stacks[layer].vjp(torch.cat([own, own * spread * slope], 1), saved)
            gradients[layer + 1] = gradients[layer + 1] + above
            gradients[layer] = own * torch.exp(log_sd)
        return value, torch.cat(gradients, 1)

    return value_and_gradient


def _latent(layers: Conditionals, of_latents: LatentFunction) -> FlatFunction:
    def value_and_gradient(x: torch.Tensor, with_value: bool = True) -> tuple[torch.Tensor | None, torch.Tensor]:
        z = list(x.split(layers.dims, 1))
        value, gradients = of_latents(z, with_value)
        if with_value:
            value = value + standard_normal_log_prob(z[-1])
        gradients[-1] = gradients[-1] - z[-1]
        for layer, stack in enumerate(layers.stacks):
            mean, log_sd, slope, saved = layers.evaluate(layer, z[layer + 1])
            inverse = torch.exp(-log_sd)
            error = (z[layer] - mean).mul_(inverse)  # ρ
            square = error.square()
            if with_value:
                value = value - (0.5 * square + log_sd).sum(1) - 0.5 * layers.dims[layer] * LOG_2PI
            pull = error.mul_(inverse)
            above = stack.vjp(torch.cat([pull, square.sub_(1).mul_(slope)], 1), saved)
            gradients[layer] = gradients[layer] - pull
            gradients[layer + 1] = gradients[layer + 1] + above
        return value, torch.cat(gradients, 1)

    return value_and_gradient
