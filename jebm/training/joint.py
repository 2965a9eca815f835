"""Joint training of hierarchy, inference network and energies (arXiv 2306.06323, section 3.2): two objectives, one
interface.

log p(x) = log ∫ p_β(x|z) exp(f_α(z)) p_β(z) dz − log Z_{α,β}. Because Z depends on β as well as on α, the gradient of
everything inside the tilted prior has a term of the posterior and a term of the prior. Both objectives maximise

    positive term at z⁺ (posterior) − negative term at z⁻ (prior).

They differ in how z⁺ is drawn, and in what is held fixed when β changes:

- ``mcmc`` holds z fixed. By Fisher's identity, the score of log p(x) is E_post[∇ log p(x, z)] − E_prior[∇ (f(z) + log
  p_β(z))] with log p(x, z) = log p_β(x|z) + f(z) + log p_β(z). The inter-layer networks therefore get two terms.
- ``variational`` holds ε fixed. In whitened coordinates the bound is E_q(ε|x)[log p_β(x|T_β(ε)) + f(T_β(ε)) + log N(ε;
  0, I) − log q_ω(ε|x)] − log Z_{α,β} with Z = E_{N(0, I)}[exp f(T_β(ε))]. The Jacobian of T cancels p_β(z), which
  remains in Z only as T moves f. Hence ∇_β log Z = E_prior[∇_β f(T_β(ε⁻))] at fixed ε⁻, which is the negative term in
  these coordinates. This is the exact gradient of the bound, since the inference network is a density on ε.

f is a *negative* energy throughout: high values are likely. All terms are in nats.
"""

from typing import NamedTuple

import torch

from jebm.config.components import build
from jebm.config.training import TrainJoint
from jebm.data.batches import Pixels
from jebm.models.backbones.base import Posterior, TopDown, flatten
from jebm.models.nets import frozen, frozen_parameters
from jebm.models.priors.ebm import JointPrior
from jebm.sampling.run import ChainResult, run_chain
from jebm.sampling.spaces import SPACES, Space
from jebm.training.ebm import energy_penalty
from jebm.training.loss import Loss, Scalars
from jebm.training.schedules import kl_weights, layer_ramps


class JointLoss(Loss):
    """The parts that both objectives share: the bound with its KL weights, and the chain that draws the negative
    samples.

    Both are losses over the parameters of ``prior.hierarchy`` and of ``prior``.

    Args:
        pixels: training images (count, *image_shape) in [−1, 1].
        rng: for the draws from q and for the chains.
    """

    def __init__(self, prior: JointPrior, pixels: Pixels, settings: TrainJoint, rng: torch.Generator):
        super().__init__(len(pixels))
        self.prior, self.hierarchy, self.pixels = prior, prior.hierarchy, pixels
        self.settings, self.rng = settings, rng
        self.space = SPACES[settings.chain.space](prior.hierarchy, prior)
        self.kernel = build("kernel", settings.chain.kernel)
        self.target = self.space.target(settings.chain.gradients)
        self.ramps = layer_ramps(settings.kl_warmup, prior.hierarchy.layers)

    def kl_weights(self, step: int) -> torch.Tensor:
        """The KL weight of each layer at a step, (layers,)."""
        return kl_weights(step, self.settings.steps, self.ramps)

    def draw_negatives(self, count: int) -> ChainResult:
        """Draw x⁻, (count, dimensions), by a chain on the prior, in the coordinates of ``space``."""
        start = self.space.start(self.settings.chain.start, count, self.rng)
        return run_chain(self.kernel, self.target, start, self.settings.chain.steps, self.rng)


class McmcLoss(JointLoss):
    """Maximum likelihood with positive samples from Langevin dynamics on the posterior.

    The inference network is trained as well, by the gradient of the bound with respect to ω alone, but it does not
    influence the other parameters (except with ``posterior_start: network``, where it draws the initial state of the
    posterior chain). It is needed for the evaluations.
    """

    def __init__(self, prior: JointPrior, pixels: Pixels, settings: TrainJoint, rng: torch.Generator):
        super().__init__(prior, pixels, settings, rng)
        self.posterior_kernel = build("kernel", settings.posterior_chain.kernel)
        self.posterior_space = SPACES[settings.posterior_chain.space](prior.hierarchy, prior)

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        hierarchy, prior, x = self.hierarchy, self.prior, self.pixels[batch]
        # With step + 1, logged steps, which are multiples of inference_interval, have the bound.
        infers = (step + 1) % self.settings.inference_interval == 0
        posterior = None
        if infers:
            with frozen_parameters(hierarchy.generative_parameters()), frozen(prior):
                posterior = hierarchy.infer(x, self.rng)
                inference = bound(prior, x, posterior, self.kl_weights(step))
        with frozen(hierarchy, prior):
            positive = self.draw_positives(x, posterior)
            negative = self.draw_negatives(len(x))
        each_positive, log_p_positive, top = tilted_log_prob(self.posterior_space, positive.x)
        each_negative, log_p_negative, _ = tilted_log_prob(self.space, negative.x)
        f_positive, f_negative = each_positive.mean(), each_negative.mean()
        log_px = hierarchy.decode(top).log_prob(x).mean()
        ascended = log_px + f_positive + log_p_positive - f_negative - log_p_negative
        penalty = energy_penalty(self.settings.energy_l2, each_positive, each_negative)
        scalars = {
            **contrast(f_positive, f_negative, negative),
            "posterior_acceptance": positive.acceptance,
            "log_px_chain": log_px,
        }
        if not infers:
            return penalty - ascended, scalars
        return penalty - ascended - inference.value, scalars | inference.scalars

    def draw_positives(self, x: torch.Tensor, posterior: Posterior | None) -> ChainResult:
        """Draw z⁺ by a chain on p(z | x), from the initial state that ``posterior_start`` names."""
        chain, space = self.settings.posterior_chain, self.posterior_space
        if self.settings.posterior_start == "prior":
            start = space.start(chain.start, len(x), self.rng)
        else:
            start = space.from_noise(flatten(posterior.eps).detach())
        return run_chain(self.posterior_kernel, space.posterior(x, chain.gradients), start, chain.steps, self.rng)


class VariationalLoss(JointLoss):
    """The bound on log p(x) under the EBM prior, over decoder, inference network and energies at once."""

    def __call__(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, Scalars]:
        hierarchy, prior, x = self.hierarchy, self.prior, self.pixels[batch]
        posterior, weights = hierarchy.infer(x, self.rng), self.kl_weights(step)
        with frozen(hierarchy, prior):
            negative = self.draw_negatives(len(x))
            eps = self.space.to_noise(negative.x)
        f_negative = prior.tilt(eps).mean()  # its gradient is that of log Z, through α and through T_β
        positive = bound(prior, x, posterior, weights)
        penalty = energy_penalty_only(prior, self.settings.energy_l2, posterior.top, eps)
        return penalty + weights.min() * f_negative - positive.value, {
            **contrast(positive.f, f_negative, negative),
            **positive.scalars,
        }


LOSSES: dict[str, type[JointLoss]] = {"mcmc": McmcLoss, "variational": VariationalLoss}
"""``train_joint.method`` → the loss."""


def tilted_log_prob(space: Space, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, TopDown]:
    """For states x of a chain, which represent fixed latents z: f(z), (batch,); the mean of log p_β(z), differentiable
    in α and β; and the top-down pass through z."""
    with torch.no_grad():
        z = space.latents(x)
    top, log_p = space.hierarchy.condition(z)
    return space.prior.energy(top), log_p.sum(1).mean(), top


def energy_penalty_only(prior: JointPrior, weight: float, positive: TopDown, eps: torch.Tensor) -> torch.Tensor | float:
    """:func:`~jebm.training.ebm.energy_penalty` with a gradient for the energies only: the top-down passes are
    detached."""
    if not weight:
        return 0.0
    with torch.no_grad():
        negative = prior.hierarchy.top_down_flat(eps)
    held = TopDown(*(tuple(part.detach() for part in parts) for parts in positive))
    return energy_penalty(weight, prior.energy(held), prior.energy(negative))


class Bound(NamedTuple):
    value: torch.Tensor
    """E_q[log p(x|z) + w f(z)] − Σ_i w_i KL_i, averaged over the batch, in nats; with all weights 1 it is the bound
    without log Z. w is the smallest w_i: f is part of the divergence from the prior, and without the KL that restrains
    them, draws would move to wherever f is high."""
    f: torch.Tensor
    """E_q[f(z)], nats."""
    scalars: Scalars
    """For the history, under the names of stage 1; ``elbo`` is that of the Gaussian hierarchy."""


def bound(prior: JointPrior, x: torch.Tensor, posterior: Posterior, weights: torch.Tensor) -> Bound:
    """The bound for images x, (batch, *image_shape), from one draw of q(ε | x) per image."""
    log_px = prior.hierarchy.decode(posterior.top).log_prob(x).mean()
    f, kl = prior.energy(posterior.top).mean(), posterior.kl.mean(0)
    scalars = {"log_px": log_px, "elbo": log_px - kl.sum(), **{f"kl_z{i + 1}": value for i, value in enumerate(kl)}}
    return Bound(log_px + weights.min() * f - (weights.to(kl) * kl).sum(), f, scalars)


def contrast(f_positive: torch.Tensor, f_negative: torch.Tensor, negative: ChainResult) -> Scalars:
    """The values of both terms for the history, under the names of stage 2."""
    return {
        "energy_gap": f_positive - f_negative,
        "f_posterior": f_positive,
        "f_prior": f_negative,
        "acceptance": negative.acceptance,
    }
