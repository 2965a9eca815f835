"""A plain transcription of chains and of a joint training step, as research code writes them: the yardstick.

Two calls of autograd a step, one for f and one for the Gaussian part, while all parameters require gradients. The
densities, the noise and its order are those of the chains that it is compared with, so the ends agree to rounding.
"""

from collections.abc import Callable

import torch

from jebm.models.hierarchy import Hierarchy, standard_normal_log_prob
from jebm.models.priors import JointPrior
from jebm.types import LatentSpace

LogDensity = Callable[[torch.Tensor], torch.Tensor]


def langevin(
    parts: list[LogDensity], x: torch.Tensor, steps: int, step_size: float, generator: torch.Generator
) -> torch.Tensor:
    """Unadjusted Langevin on the sum of some log densities, a call of autograd for each of them a step."""
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        gradient = sum(torch.autograd.grad(part(x).sum(), x)[0] for part in parts)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = x.detach() + 0.5 * step_size**2 * gradient + step_size * noise
    return x.detach()


def prior_parts(hierarchy: Hierarchy, prior: JointPrior, space: LatentSpace) -> list[LogDensity]:
    """f, and the Gaussian part: log p_β(z) in the space ``z``, log N(ε; 0, I) in whitened space."""
    if space == "whitened":
        return [prior.tilt, standard_normal_log_prob]

    def energy(x: torch.Tensor) -> torch.Tensor:
        z = hierarchy.split(x)
        return sum(net(layer).squeeze(1) for net, layer in zip(prior.energy.nets.values(), z, strict=True))

    return [energy, lambda x: hierarchy.log_prob(hierarchy.split(x))]


def posterior_parts(
    hierarchy: Hierarchy, prior: JointPrior, images: torch.Tensor, space: LatentSpace
) -> list[LogDensity]:
    """The same, the Gaussian part with log p(x | z) added."""
    energy, gaussian = prior_parts(hierarchy, prior, space)

    def joint(x: torch.Tensor) -> torch.Tensor:
        top = hierarchy.top_down_flat(x) if space == "whitened" else hierarchy.condition(hierarchy.split(x))[0]
        return gaussian(x) + hierarchy.decode(top).log_prob(images)

    return [energy, joint]
