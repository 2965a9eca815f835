"""Persistent contrastive divergence: walkers that go on from step to step (Tieleman, 2008)."""

from __future__ import annotations

import torch

from jebm.config.components import build
from jebm.config.types import Count, Fraction, Gradients, KernelBlock
from jebm.models.nets import frozen
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import SPACES
from jebm.training.estimators.base import Estimate, Estimator, equal


class Persistent(Estimator):
    """Equal weights on walkers that a kernel moves in every training step.

    It follows the density as long as the walkers mix between its modes faster than training changes it. With the kernel
    ``local-global`` they move among modes through the prior's proposal. The walkers start from the base of the prior.

    Args:
        kernel: the transition, in whitened space.
        steps: number of transitions per training step.
        walkers: number of walkers, on each device.
        restart: share of the walkers that are replaced by draws from the aggregate posterior before each training step.
            It helps walkers into modes that they miss, and biases the estimate towards the data.
        gradients: ``autograd``, or ``closed-form`` where the networks have a closed form.
    """

    def __init__(
        self,
        prior,
        *,
        kernel: KernelBlock,
        steps: Count = 1,
        walkers: Count = 512,
        restart: Fraction = 0.0,
        gradients: Gradients = "closed-form",
    ):
        super().__init__(prior)
        self.kernel, self.steps, self.count = build("kernel", kernel), steps, walkers
        self.restart, self.gradients = restart, gradients
        self.walkers: torch.Tensor | None = None

    def __call__(self, positive: torch.Tensor, rng: torch.Generator) -> Estimate:
        if self.walkers is None:
            self.walkers = self.prior.base.sample(self.count, rng)
        if self.restart:
            replaced = torch.rand(self.count, 1, generator=rng, device=rng.device) < self.restart
            picked = torch.randint(len(positive), (self.count,), generator=rng, device=rng.device)
            self.walkers = torch.where(replaced, positive[picked], self.walkers)
        target = SPACES["whitened"](self.prior.hierarchy, self.prior).target(self.gradients)
        with frozen(self.prior):
            chain = run_chain(self.kernel, target, self.walkers, self.steps, rng)
        self.walkers = chain.x
        f = self.energy(self.walkers)
        return Estimate(f, equal(f), {"acceptance": chain.acceptance})

    def state_dict(self) -> dict:
        return {"walkers": self.walkers}

    def load_state_dict(self, state: dict) -> None:
        self.walkers = state["walkers"]
