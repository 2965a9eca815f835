"""The sampler of diffusion priors: from noise to latents step by step."""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from jebm.config.types import Count, DenoisingMethod
from jebm.sampling.samplers.base import Sampler, populations


class Denoising(Sampler):
    """Steps from N(0, I) to latents at equal distances of the angle θ of the noise, each with one value of the network.

    Without a network (v̂ = 0) both methods keep N(0, I) exactly, in any number of steps.

    Args:
        steps: number of steps.
        method: ``ode`` follows the probability-flow ODE by Adams–Bashforth steps of the second order, without noise
            (as DDIM does by steps of the first order); ``ancestral`` draws x(θ') given x(θ) and the predicted latents,
            with the variance of the noise between the two (DDPM; Ho et al., 2020).
        chains: number of draws that are made at once.
    """

    needs = "denoising"

    def __init__(self, *, steps: Count = 50, method: DenoisingMethod = "ode", chains: Count = 2000):
        self.steps, self.method, self.chains = steps, method, chains

    @torch.no_grad()
    def _generate(self, prior, dimensions, count, rng, progress):
        angles = [math.pi / 2 * (1 - step / self.steps) for step in range(self.steps + 1)]
        for size in populations(count, self.chains, progress, "draws"):
            x, before = torch.randn(size, dimensions, generator=rng, device=rng.device), None
            for angle, after in pairwise(angles):
                velocity = prior.velocity(x, x.new_full((size, 1), angle))
                if self.method == "ode":
                    ahead = velocity if before is None else 1.5 * velocity - 0.5 * before
                    x, before = x - (angle - after) * ahead, velocity
                else:
                    x = ancestral_step(x, velocity, angle, after, rng)
            yield x
        return {"langevin_steps": self.steps}


def ancestral_step(x: torch.Tensor, velocity: torch.Tensor, angle: float, after: float, rng: torch.Generator):
    """A draw of x at a smaller angle, (batch, dimensions), given x and v̂ at ``angle``."""
    clean = math.cos(angle) * x - math.sin(angle) * velocity
    kept = math.cos(angle) / math.cos(after)
    noise = 1 - kept**2
    mean = (math.cos(after) * noise * clean + kept * math.sin(after) ** 2 * x) / math.sin(angle) ** 2
    return mean + math.sqrt(noise) * torch.randn(x.shape, generator=rng, device=x.device)
