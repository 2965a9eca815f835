"""The end points of Markov chains on the prior, over all layers jointly."""

from __future__ import annotations

import torch

from jebm.config.components import build
from jebm.config.types import ChainStart, Count, Gradients, KernelBlock, LatentSpace, StepSizeSource
from jebm.errors import SettingError
from jebm.models.nets import frozen
from jebm.models.priors.base import Prior
from jebm.runtime.memory import explain_out_of_memory
from jebm.sampling.closed_form.gradients import prior_target
from jebm.sampling.kernel import Kernel
from jebm.sampling.run import run_chain
from jebm.sampling.samplers.base import Sampler, populations, refuse_non_finite
from jebm.sampling.spaces import SPACES


class Mcmc(Sampler):
    """The end points of chains on the prior, over all layers jointly.

    Args:
        kernel: the transition.
        steps: number of transitions of each chain.
        chains: number of chains that run in parallel.
        allow_divergence: whether chains that are not finite are dropped, even if these are all chains, and their
            share is reported; otherwise they are an error.
        space: ``whitened``, or ``z`` for priors with an energy of z. In z-space, unadjusted Langevin dynamics with step
            size s is stable only if every σ_i > s/2.
        start: ``normal`` for draws from N(0, I) in that space, ``prior`` for draws from the Gaussian hierarchy,
            which in whitened space is N(0, I) too; ``proposal`` for draws from the prior's proposal.
        step_size: ``own`` for the step size of the kernel, ``adapted`` for the one to which training adapted it.
        gradients: ``autograd``, or ``closed-form`` where the networks have a closed form.
    """

    def __init__(
        self,
        *,
        kernel: KernelBlock,
        steps: Count,
        chains: Count = 2000,
        allow_divergence: bool = False,
        space: LatentSpace = "whitened",
        start: ChainStart = "normal",
        step_size: StepSizeSource = "own",
        gradients: Gradients = "autograd",
    ):
        self.block, self.kernel, self.steps, self.chains = kernel, build("kernel", kernel), steps, chains
        self.allow_divergence, self.space, self.start = allow_divergence, space, start
        self.step_size, self.gradients = step_size, gradients

    def kernel_for(self, prior: Prior) -> Kernel:
        """The kernel with the step size that ``step_size`` selects.

        Raises:
            SettingError: ``step_size`` is ``adapted``, but training did not adapt one.
        """
        if self.step_size == "own":
            return self.kernel
        if prior.adapted_step_size is None:
            raise SettingError(
                "draw_samples.sampler.step_size: is 'adapted', but the prior was trained without "
                "train_prior.estimator.adaptation_steps"
            )
        return build("kernel", self.block.model_copy(update={"step_size": prior.adapted_step_size}))

    def _generate(self, prior, dimensions, count, rng, progress):
        kernel = self.kernel_for(prior)
        space = SPACES[self.space](getattr(prior, "hierarchy", None), prior) if self.space != "whitened" else None
        target = space.target(self.gradients) if space else prior_target(prior, self.gradients)
        acceptance, non_finite = 0.0, 0
        advice = f"lower draw_samples.sampler.chains (now {self.chains})"
        for size in populations(count, self.chains, progress):
            if space:
                start = space.start(self.start, size, rng)
            elif self.start == "proposal" and prior.proposal:
                start = prior.proposal.sample(size, rng)
            else:
                start = torch.randn(size, dimensions, generator=rng, device=rng.device)
            with frozen(prior), explain_out_of_memory(f"{size} chains", advice):
                result = run_chain(kernel, target, start, self.steps, rng)
            eps = space.to_noise(result.x) if space else result.x
            finite = result.finite & torch.isfinite(eps).all(1)
            acceptance += float(result.acceptance) * size
            non_finite += int((~finite).sum())
            yield eps[finite]
        if not self.allow_divergence:
            refuse_non_finite(non_finite, count, self.steps)
        diagnostics = {"acceptance": acceptance / count, "langevin_steps": self.steps}
        if self.allow_divergence:
            diagnostics["non_finite"] = non_finite / count
        if self.step_size == "adapted":
            diagnostics["step_size"] = kernel.step_size
        return diagnostics
