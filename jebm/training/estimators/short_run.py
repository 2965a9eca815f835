"""The negative phase of the paper: a short chain that starts anew in every step (arXiv 2306.06323, section 3.2)."""

from __future__ import annotations

import torch

from jebm.config.types import ChainStart, Count, Fraction, Gradients, KernelBlock, LatentSpace, Natural
from jebm.models.nets import frozen
from jebm.runtime.distributed import ranks
from jebm.sampling.adaptation import AdaptiveKernel
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import SPACES
from jebm.training.estimators.base import Estimate, Estimator, equal
from jebm.training.loss import Scalars


class ShortRun(Estimator):
    """Equal weights on the ends of chains of a few steps, as many as there are positive samples.

    A short chain does not reach the density, so this is not the gradient of the likelihood. What is learned is an
    energy whose chain of this length ends near the data (Nijkamp et al., 2019); its density can be far from them.

    Args:
        kernel: the transition.
        steps: number of transitions.
        space: coordinates of the chain: ``whitened`` is the noise ε; ``z`` is z = T(ε), all layers at once. In ``z``,
            unadjusted Langevin with step size s is stable only while every σ_i > s/2.
        start: distribution of the initial state: N(0, I) in these coordinates (``normal``), the Gaussian prior of the
            backbone (``prior``), or the prior's proposal (``proposal``).
        gradients: ``autograd``, or ``closed-form`` where the networks have a closed form.
        adaptation_steps: number of first training steps that adapt the step size of the kernel to
            ``target_acceptance``; the final step size is saved with the weights, for samplers with
            ``step_size: adapted``. A training step with several micro-batches counts once for each of them.
        target_acceptance: acceptance rate of the Metropolis test that the adaptation aims at.
    """

    def __init__(
        self,
        prior,
        *,
        kernel: KernelBlock,
        steps: Count,
        space: LatentSpace = "whitened",
        start: ChainStart = "normal",
        gradients: Gradients = "autograd",
        adaptation_steps: Natural = 0,
        target_acceptance: Fraction = 0.6,
    ):
        super().__init__(prior)
        self.kernel = AdaptiveKernel(kernel, target_acceptance, adaptation_steps)
        self.steps, self.start, self.gradients, self._space = steps, start, gradients, space

    def __call__(self, positive: torch.Tensor, rng: torch.Generator) -> Estimate:
        space = SPACES[self._space](self.prior.hierarchy, self.prior)
        with frozen(self.prior):
            start = space.start(self.start, len(positive), rng)
            chain = run_chain(self.kernel.kernel, space.target(self.gradients), start, self.steps, rng)
        f = self.prior.energy(space.top_down(chain.x))
        return Estimate(f, equal(f), {"acceptance": chain.acceptance, **self.adapt(chain.acceptance)})

    def adapt(self, acceptance: torch.Tensor) -> Scalars:
        """Adapt the step size to the acceptance rate of a run of the chain. Returns the step size of that run for the
        history, if it adapts."""
        used = {"step_size": acceptance.new_tensor(self.kernel.step_size)} if self.kernel.adapts else {}
        self.kernel.observe(*ranks().average([acceptance.detach().clone()]))
        return used

    def state_dict(self) -> dict:
        return self.kernel.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.kernel.load_state_dict(state)

    def facts(self) -> dict:
        return {"step_size": self.kernel.step_size} if self.kernel.adapts else {}
