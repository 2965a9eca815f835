"""The posterior p(ε | x) as the target of chains in whitened space."""

import torch

from jebm.config.types import Gradients
from jebm.models.backbones.base import Hierarchy
from jebm.models.priors.base import Prior
from jebm.sampling.closed_form.gradients import posterior_gradient
from jebm.sampling.target import Target


def posterior_target(hierarchy: Hierarchy, prior: Prior, x: torch.Tensor, gradients: Gradients = "autograd") -> Target:
    """log p(ε | x) = log p(x | T(ε)) + tilt(ε) + log N(ε; 0, I) + const, nats, for images x (batch, *image_shape).

    There is one chain per image. The value is log p(x, ε) + log Z, with Z of the prior.
    """

    def tilt(eps: torch.Tensor) -> torch.Tensor:
        top = hierarchy.top_down_flat(eps)
        return hierarchy.decode(top).log_prob(x) + prior.tilt_after(eps, top)

    if gradients == "autograd":
        return Target(tilt)
    return Target(tilt, closed_form=posterior_gradient(hierarchy, prior, x), lean=True)
