"""Hierarchy, inference network and energies at once (arXiv 2306.06323, section 3.2): two objectives, one interface.

log p(x) = log ∫ p_β(x|z) exp(f_α(z)) p_β(z) dz − log Z_{α,β}, and Z depends on β as well as on α: what is learned by
maximum likelihood inside the tilt has a term of the posterior and a term of the prior. Both objectives ascend

    positive term on z⁺ (posterior) − negative term on z⁻ (prior),

and differ in where z⁺ comes from, and in what is held still when β moves:

- ``mcmc`` holds z. The score of log p(x) is E_post[∇ log p(x, z)] − E_prior[∇ (f(z) + log p_β(z))], by Fisher's
  identity, with log p(x, z) = log p_β(x|z) + f(z) + log p_β(z). So the inter-layer networks get two terms.
- ``variational`` holds ε. In whitened coordinates the bound is E_q(ε|x)[log p_β(x|T_β(ε)) + f(T_β(ε)) +
  log N(ε; 0, I) − log q_ω(ε|x)] − log Z_{α,β} with Z = E_{N(0, I)}[exp f(T_β(ε))]: p_β(z) is gone, the Jacobian of T
  having cancelled it, and what remains of it in Z is that T moves f. Hence ∇_β log Z = E_prior[∇_β f(T_β(ε⁻))] at
  fixed ε⁻; this is the second of the two terms in these coordinates. It is the exact gradient of the bound, since the
  inference network is one on ε.

f is a *negative* energy throughout: high means likely. All terms are in nats.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from jebm.config.components import build
from jebm.config.training import TrainingChain, TrainJoint
from jebm.data.batches import Pixels
from jebm.models.backbones.base import Hierarchy, Posterior, TopDown, flatten
from jebm.models.nets import fixed, frozen
from jebm.models.priors.joint import JointPrior
from jebm.sampling.run import ChainResult, run_chain
from jebm.sampling.spaces import SPACES, Space
from jebm.training.ebm import energy_penalty
from jebm.training.loop import Loss
from jebm.training.schedules import kl_weights, layer_ramps

Scalars = dict[str, torch.Tensor]


def joint_loss(prior: JointPrior, pixels: Pixels, settings: TrainJoint, generator: torch.Generator) -> Loss:
    """The loss of ``settings.method`` over the parameters of ``prior.hierarchy`` and of ``prior``.

    Args:
        pixels: training images (count, *image_shape) in [−1, 1].
    """
    return {"mcmc": mcmc_loss, "variational": variational_loss}[settings.method](prior, pixels, settings, generator)


def mcmc_loss(prior: JointPrior, pixels: Pixels, settings: TrainJoint, generator: torch.Generator) -> Loss:
    """Maximum likelihood with Langevin positives; the inference network is trained along and drives nothing else.

    Its gradient, the bound's with respect to ω alone, is there so that the same evaluations apply (and, with
    ``posterior_start: network``, to give the posterior chain its start).
    """
    hierarchy, kernel = prior.hierarchy, build("kernel", settings.posterior_chain.kernel)
    posterior_space = SPACES[settings.posterior_chain.space](hierarchy, prior)
    prior_space = SPACES[settings.chain.space](hierarchy, prior)
    draw_negatives = negatives(prior_space, settings.chain, generator)
    weights = bound_weights(hierarchy, settings)

    def loss(step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        x = pixels[batch]
        infers = (step + 1) % settings.inference_every == 0  # so that logged steps, multiples of it, have the bound
        if infers:
            with fixed(hierarchy.generator_parameters()), frozen(prior):
                posterior = hierarchy.infer(x, generator)
                inference = bound(prior, x, posterior, weights(step))
        with frozen(hierarchy, prior):
            if settings.posterior_start == "prior":
                start = posterior_space.start(settings.posterior_chain.start, len(x), generator)
            else:
                start = posterior_space.enter(flatten(posterior.eps).detach())
            target = posterior_space.posterior(x, settings.posterior_chain.gradients)
            positive = run_chain(kernel, target, start, settings.posterior_chain.steps, generator)
            negative = draw_negatives(len(x))
        each_positive, log_p_positive, top = tilted_log_prob(posterior_space, positive.x)
        each_negative, log_p_negative, _ = tilted_log_prob(prior_space, negative.x)
        f_positive, f_negative = each_positive.mean(), each_negative.mean()
        log_px = hierarchy.decode(top).log_prob(x).mean()
        ascended = log_px + f_positive + log_p_positive - f_negative - log_p_negative
        penalty = energy_penalty(settings.energy_l2, each_positive, each_negative)
        scalars = {
            **contrast(f_positive, f_negative, negative),
            "posterior_acceptance": positive.acceptance,
            "log_px_chain": log_px,
        }
        if not infers:
            return penalty - ascended, scalars
        return penalty - ascended - inference.value, scalars | inference.scalars

    return loss


def variational_loss(prior: JointPrior, pixels: Pixels, settings: TrainJoint, generator: torch.Generator) -> Loss:
    """The bound on log p(x) under the EBM prior, over generator, inference network and energies at once."""
    hierarchy = prior.hierarchy
    space = SPACES[settings.chain.space](hierarchy, prior)
    draw_negatives, weights = negatives(space, settings.chain, generator), bound_weights(hierarchy, settings)

    def loss(step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        x = pixels[batch]
        posterior = hierarchy.infer(x, generator)
        with frozen(hierarchy, prior):
            negative = draw_negatives(len(x))
            eps = space.whiten(negative.x)
        f_negative = prior.tilt(eps).mean()  # its gradient is that of log Z: through α, and through T_β
        positive = bound(prior, x, posterior, weights(step))
        penalty = penalty_at(prior, settings.energy_l2, posterior.top, eps)
        return penalty + weights(step).min() * f_negative - positive.value, {
            **contrast(positive.f, f_negative, negative),
            **positive.scalars,
        }

    return loss


def tilted_log_prob(space: Space, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, TopDown]:
    """f(z), (batch,), and the mean of log p_β(z) at the fixed z that x stands for, differentiable in α and β, and the
    pass through z."""
    with torch.no_grad():
        z = space.latents(x)
    top, log_p = space.hierarchy.condition(z)
    return space.prior.energy(top), log_p.sum(1).mean(), top


def penalty_at(prior: JointPrior, weight: float, positive: TopDown, eps: torch.Tensor) -> torch.Tensor | float:
    """:func:`~jebm.training.ebm.energy_penalty` of the energies alone: the passes are held still."""
    if not weight:
        return 0.0
    with torch.no_grad():
        negative = prior.hierarchy.top_down_flat(eps)
    held = TopDown(*(tuple(part.detach() for part in parts) for parts in positive))
    return energy_penalty(weight, prior.energy(held), prior.energy(negative))


class Bound(NamedTuple):
    value: torch.Tensor
    """E_q[log p(x|z) + w f(z)] − Σ_i w_i KL_i, a mean over the batch, nats: with all weights 1 the bound without log Z.
    w is the smallest w_i: f is part of the divergence from the prior, and without the KL that holds them back the
    draws would run off to where f is high."""
    f: torch.Tensor
    """E_q[f(z)], nats."""
    scalars: Scalars
    """For the history, under the names of stage 1: ``elbo`` is that of the Gaussian hierarchy alone."""


def bound(prior: JointPrior, x: torch.Tensor, posterior: Posterior, weights: torch.Tensor) -> Bound:
    """The bound on images x, (batch, *image_shape), by one draw of q(ε | x)."""
    log_px = prior.hierarchy.decode(posterior.top).log_prob(x).mean()
    f, kl = prior.energy(posterior.top).mean(), posterior.kl.mean(0)
    scalars = {"log_px": log_px, "elbo": log_px - kl.sum(), **{f"kl_z{i + 1}": value for i, value in enumerate(kl)}}
    return Bound(log_px + weights.min() * f - (weights.to(kl) * kl).sum(), f, scalars)


def bound_weights(hierarchy: Hierarchy, settings: TrainJoint) -> Callable[[int], torch.Tensor]:
    """The KL weights of a step, (layers,)."""
    ramps = layer_ramps(settings.kl_warmup, hierarchy.layers)
    return lambda step: kl_weights(step, settings.steps, ramps)


def negatives(space: Space, settings: TrainingChain, generator: torch.Generator) -> Callable[[int], ChainResult]:
    """Draws a number of x⁻ by a chain on the prior; what x stands for is the space's affair."""
    kernel, target = build("kernel", settings.kernel), space.target(settings.gradients)

    def draw(count: int) -> ChainResult:
        start = space.start(settings.start, count, generator)
        return run_chain(kernel, target, start, settings.steps, generator)

    return draw


def contrast(f_positive: torch.Tensor, f_negative: torch.Tensor, negative: ChainResult) -> Scalars:
    """For the history, under the names of stage 2."""
    return {
        "energy_gap": f_positive - f_negative,
        "f_posterior": f_positive,
        "f_prior": f_negative,
        "acceptance": negative.acceptance,
    }
