"""The sampler of sequential priors: chains on one layer after the other, from the top."""

from __future__ import annotations

from functools import partial

import torch

from jebm.config.components import build
from jebm.config.types import Count, KernelBlock
from jebm.models.backbones.base import EMPTY, flatten
from jebm.models.nets import frozen
from jebm.models.priors.sequential import SequentialPrior
from jebm.sampling.kernel import Kernel
from jebm.sampling.run import run_chain
from jebm.sampling.samplers.base import Sampler, populations, refuse_non_finite
from jebm.sampling.target import Target


class Sequential(Sampler):
    """A chain on ε_L, then a chain on ε_{L−1} given its end point, and so on; each chain starts from N(0, I).

    Args:
        kernel: the transition.
        steps: number of transitions on each layer.
        chains: number of chains that run in parallel.
    """

    needs = "sequential"

    def __init__(self, *, kernel: KernelBlock, steps: Count, chains: Count = 2000):
        self.kernel, self.steps, self.chains = build("kernel", kernel), steps, chains

    def _generate(self, prior, dimensions, count, rng, progress):
        acceptance, non_finite = 0.0, 0
        for size in populations(count, self.chains, progress):
            eps, accepted, bad = descend(prior, self.kernel, self.steps, size, rng)
            acceptance += accepted * size
            non_finite += bad
            yield eps
        refuse_non_finite(non_finite, count, self.steps)
        return {"acceptance": acceptance / count, "langevin_steps": self.steps}


@torch.no_grad()
def descend(
    prior: SequentialPrior, kernel: Kernel, steps: int, count: int, rng: torch.Generator
) -> tuple[torch.Tensor, float, int]:
    """Sample all layers for one population of chains, from the top.

    Returns:
        Flat ε (count, dimensions), the acceptance rate on the layers that have an energy, and the largest number of
        chains per layer that are not finite.
    """
    above, layers, acceptance, non_finite = EMPTY, [], [], 0
    for number in range(prior.hierarchy.layers, 0, -1):
        dims = prior.hierarchy.layer_dims[number - 1]
        eps = torch.randn(count, dims, generator=rng, device=rng.device)
        if prior.energy.has_layer(number):
            with frozen(prior):
                chain = run_chain(kernel, Target(partial(prior.layer_tilt, above)), eps, steps, rng)
            eps = chain.x
            acceptance.append(float(chain.acceptance))
            non_finite = max(non_finite, int(chain.non_finite))
        layers.insert(0, eps)
        above = prior.descend(above, eps)
    return flatten(tuple(layers)), sum(acceptance) / len(acceptance), non_finite
