"""The sampler of recovery priors: a chain on each level of noise, from N(0, I) to latents."""

from __future__ import annotations

import torch

from jebm.config.components import build
from jebm.config.types import Count, KernelBlock
from jebm.models.nets import frozen
from jebm.models.priors.recovery import RecoveryPrior
from jebm.sampling.kernel import Kernel
from jebm.sampling.run import ChainResult, run_chain
from jebm.sampling.samplers.base import Sampler, populations, refuse_non_finite
from jebm.sampling.target import Target


class Levels(Sampler):
    """Draws ε_T from N(0, I), and then each ε_t given ε_{t+1} by a chain on η that starts from N(0, I).

    Args:
        kernel: the transition.
        steps: number of transitions on each level; those of training are the natural choice.
        chains: number of chains that run in parallel.
    """

    needs = "by_levels"

    def __init__(self, *, kernel: KernelBlock, steps: Count, chains: Count = 2000):
        self.kernel, self.steps, self.chains = build("kernel", kernel), steps, chains

    def _generate(self, prior, dimensions, count, rng, progress):
        acceptance, non_finite = 0.0, 0
        for size in populations(count, self.chains, progress):
            eps = torch.randn(size, dimensions, generator=rng, device=rng.device)
            for level in reversed(range(prior.levels)):
                eps, chain = recover(prior, level, eps, self.kernel, self.steps, rng)
                acceptance += float(chain.acceptance) * size / prior.levels
            non_finite += int(chain.non_finite)
            yield eps
        refuse_non_finite(non_finite, count, self.steps)
        return {"acceptance": acceptance / count, "langevin_steps": self.steps * prior.levels}


def recover(
    prior: RecoveryPrior, level: int, above: torch.Tensor, kernel: Kernel, steps: int, rng: torch.Generator
) -> tuple[torch.Tensor, ChainResult]:
    """ε_t (batch, dimensions) given ε_{t+1}: the ends of chains of ``steps`` transitions on η from N(0, I)."""
    start = torch.randn(above.shape, generator=rng, device=above.device)
    target = Target(lambda eta: prior.tilt_at(level, prior.at(level, above, eta)))
    with frozen(prior):
        chain = run_chain(kernel, target, start, steps, rng)
    return prior.at(level, above, chain.x), chain
