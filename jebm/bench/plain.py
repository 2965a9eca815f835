"""A plain transcription of chains and of a joint training step, in the style of research code, as a reference for
speed.

It calls autograd twice per step, once for f and once for the Gaussian part, while all parameters require gradients.
Densities, noise and the order of random numbers equal those of the chains that it is compared with, so the results
agree up to rounding.
"""

from collections.abc import Callable

import torch
from torch.distributions import Distribution
from torch.nn.functional import conv_transpose2d

from jebm.config.training import TrainingChain, TrainJoint
from jebm.config.types import LatentSpace
from jebm.models.backbones.base import Hierarchy, TopDown, standard_normal_log_prob
from jebm.models.backbones.convolutional import ConvolutionalHierarchy
from jebm.models.energies.layerwise import LayerwiseEnergy
from jebm.models.priors.ebm import JointPrior

LogDensity = Callable[[torch.Tensor], torch.Tensor]


def langevin(
    parts: list[LogDensity], x: torch.Tensor, steps: int, step_size: float, rng: torch.Generator
) -> torch.Tensor:
    """Unadjusted Langevin on a sum of log densities, with one call of autograd for each of them per step."""
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        gradient = sum(torch.autograd.grad(part(x).sum(), x)[0] for part in parts)
        noise = torch.randn(x.shape, generator=rng, device=x.device, dtype=x.dtype)
        x = x.detach() + 0.5 * step_size**2 * gradient + step_size * noise
    return x.detach()


def prior_parts(hierarchy: Hierarchy, prior: JointPrior, space: LatentSpace) -> list[LogDensity]:
    """f, and the Gaussian part: log p_β(z) in the space ``z``, log N(ε; 0, I) in whitened space."""
    if space == "whitened":
        return [prior.tilt, standard_normal_log_prob]

    def energy(x: torch.Tensor) -> torch.Tensor:
        z = hierarchy.split(x)
        return sum(net(z[int(name) - 1]).squeeze(1) for name, net in prior.energy.nets.items())

    return [energy, lambda x: hierarchy.log_prob(hierarchy.split(x))]


def posterior_parts(
    hierarchy: Hierarchy, prior: JointPrior, images: torch.Tensor, space: LatentSpace
) -> list[LogDensity]:
    """f, and the Gaussian part with log p(x | z) added."""
    energy, gaussian = prior_parts(hierarchy, prior, space)

    def joint(x: torch.Tensor) -> torch.Tensor:
        top = hierarchy.top_down_flat(x) if space == "whitened" else hierarchy.condition(hierarchy.split(x))[0]
        return gaussian(x) + decode(hierarchy, top).log_prob(images)

    return [energy, joint]


def decode(hierarchy: Hierarchy, top: TopDown) -> Distribution:
    """p(x | z), with the library's transposed convolution also for the first layer, whose input is a single pixel."""
    if not isinstance(hierarchy, ConvolutionalHierarchy):
        return hierarchy.decode(top)
    first, *others = hierarchy.decoder
    maps = conv_transpose2d(top.z[0][:, :, None, None], first.weight, first.bias)
    for layer in others:
        maps = layer(maps)
    return hierarchy.likelihood(maps)


def joint_step(
    hierarchy: Hierarchy,
    prior: JointPrior,
    settings: TrainJoint,
    pixels: torch.Tensor,
    rng: torch.Generator,
) -> Callable[[], None]:
    """One step of joint training by MCMC on the first batch of ``pixels``, without an inference network.

    The order is that of the published experiment: posterior chain, prior chain, decoder, inter-layer networks, then the
    energy of each layer; each has its own optimiser.
    """
    inference = {id(parameter) for parameter in hierarchy.inference_parameters()}
    conditionals = list(hierarchy.generator_nets.parameters())
    known = inference | {id(parameter) for parameter in conditionals}
    decoder = [parameter for parameter in hierarchy.parameters() if id(parameter) not in known]
    rates = [settings.learning_rate] * 2 + [settings.energy_learning_rate] * len(prior.energy.nets)
    parts = [decoder, conditionals, *(list(net.parameters()) for net in prior.energy.nets.values())]
    optimisers = [torch.optim.Adam(part, lr=rate) if part else None for part, rate in zip(parts, rates, strict=True)]
    images, space, chain, printed = pixels[: settings.batch_size], settings.chain.space, settings.chain, []

    def descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        printed.append(float(loss.detach()))  # such a script prints its losses

    def step() -> None:
        printed.clear()
        shape = (len(images), hierarchy.dimensions)
        start = torch.randn(shape, generator=rng, device=images.device)
        other, length = settings.posterior_chain, settings.posterior_chain.kernel.step_size
        joint = posterior_parts(hierarchy, prior, images, other.space)
        positive = langevin(joint, start, other.steps, length, rng)
        start = torch.randn(shape, generator=rng, device=images.device)
        alone = prior_parts(hierarchy, prior, space)
        negative = langevin(alone, start, chain.steps, chain.kernel.step_size, rng)
        with torch.no_grad():
            z = [
                hierarchy.top_down_flat(x).z if own == "whitened" else hierarchy.split(x)
                for x, own in ((positive, other.space), (negative, space))
            ]
        top, log_p = hierarchy.condition(z[0])
        descend(optimisers[0], -decode(hierarchy, top).log_prob(images).mean())
        if optimisers[1] is not None:  # a single layer has no networks between layers
            descend(optimisers[1], hierarchy.log_prob(z[1]).mean() - log_p.sum(1).mean())
        for optimiser, (name, net) in zip(optimisers[2:], prior.energy.nets.items(), strict=True):
            layer = int(name) - 1
            descend(optimiser, net(z[1][layer]).mean() - net(z[0][layer]).mean())

    return step


def comparable(prior: object, *chains: TrainingChain | None) -> bool:
    """Whether these chains have a plain transcription: unadjusted Langevin, with energies of one vector per layer."""
    known = isinstance(prior, JointPrior) and isinstance(prior.energy, LayerwiseEnergy)
    vectors = known and all(len(shape) == 1 for shape in prior.hierarchy.latent_shapes)
    kernels = [chain.kernel for chain in chains if chain is not None]
    return vectors and all(k.name == "langevin" and not k.adjusted for k in kernels)
