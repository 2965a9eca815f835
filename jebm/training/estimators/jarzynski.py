"""Weighted walkers by Jarzynski's equality (Carbone, Hua, Coste and Vanden-Eijnden, "Efficient training of energy-based
models using Jarzynski equality", NeurIPS 2023, arXiv 2305.19414)."""

from __future__ import annotations

from typing import NamedTuple

import torch

from jebm.config.components import build
from jebm.config.types import Count, Fraction, Gradients, KernelBlock
from jebm.models.nets import frozen
from jebm.sampling.partition import log_mean_weight, systematic_resampling
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import SPACES
from jebm.sampling.target import Target
from jebm.training.estimators.base import Estimate, Estimator, effective_samples


class Walkers(NamedTuple):
    """Weighted walkers that follow a changing density."""

    x: torch.Tensor
    """(walkers, dimensions)."""
    f: torch.Tensor
    """(walkers,): f at x under the parameters for which the log weights hold, nats."""
    log_w: torch.Tensor
    """(walkers,): log weights since the last resampling, nats, float64."""
    log_z: float
    """log Z at the last resampling, nats."""


class Jarzynski(Estimator):
    """Persistent walkers with weights that make up for the change of the density between two training steps.

    When f changes to f', a walker at x gains the weight exp(f'(x) − f(x)); then a kernel that leaves the new density
    invariant moves it. If the change of f does not depend on the walker, the mean weight estimates Z without bias, also
    where the walkers do not mix. But the gradient does depend on the walkers from which it is computed: their mean
    weight is too small, by nats. So there are two populations. The first gives the gradient. The second follows the
    same changes and does not enter the gradient; its log Z is recorded.

    Walkers start from the base of the prior, at f = 0.

    Args:
        kernel: the transition, in whitened space, with a Metropolis test.
        steps: number of transitions per training step.
        walkers: number of walkers of each population, on each device.
        resample_below: a population is resampled if its effective fraction falls below this.
        gradients: ``autograd``, or ``closed-form`` where the networks have a closed form.
    """

    def __init__(
        self,
        prior,
        *,
        kernel: KernelBlock,
        steps: Count = 2,
        walkers: Count = 512,
        resample_below: Fraction = 0.5,
        gradients: Gradients = "closed-form",
    ):
        super().__init__(prior)
        self.kernel, self.steps, self.count = build("kernel", kernel), steps, walkers
        self.resample_below, self.gradients = resample_below, gradients
        self.populations: list[Walkers] = []
        self.log_z = 0.0

    def __call__(self, positive: torch.Tensor, rng: torch.Generator) -> Estimate:
        if not self.populations:
            self.populations = [self._start(rng), self._start(rng)]
        target = SPACES["whitened"](self.prior.hierarchy, self.prior).target(self.gradients)
        x = self.populations[0].x
        f = self.energy(x)
        first = self._reweigh(self.populations[0], f.detach())
        with torch.no_grad():
            second = self._reweigh(self.populations[1], self.energy(self.populations[1].x))
        weights = torch.softmax(first.log_w, 0).to(f.dtype)
        self.log_z = second.log_z + log_mean_weight(second.log_w).value
        acceptance, self.populations = [], [first, second]
        for number, population in enumerate(self.populations):
            self.populations[number], accepted = self._move(population, target, rng)
            acceptance.append(accepted)
        scalars = {"effective_samples": effective_samples(weights), "log_z": f.new_tensor(self.log_z)}
        return Estimate(f, weights, scalars | {"acceptance": torch.stack(acceptance).mean()})

    def _start(self, rng: torch.Generator) -> Walkers:
        x = self.prior.base.sample(self.count, rng)
        zeros = x.new_zeros(self.count)
        return Walkers(x, zeros, zeros.double(), 0.0)

    @staticmethod
    def _reweigh(walkers: Walkers, f: torch.Tensor) -> Walkers:
        return walkers._replace(f=f, log_w=walkers.log_w + (f - walkers.f).double())

    @torch.no_grad()
    def _move(self, walkers: Walkers, target: Target, rng: torch.Generator) -> tuple[Walkers, torch.Tensor]:
        """Resample the walkers if their weights are uneven, then move them. Returns them with the acceptance rate."""
        estimate = log_mean_weight(walkers.log_w)
        x, log_w, log_z = walkers.x, walkers.log_w, walkers.log_z
        if estimate.effective_fraction < self.resample_below:
            x = systematic_resampling(x, log_w, self.count, rng)
            log_w, log_z = torch.zeros_like(log_w), log_z + estimate.value
        with frozen(self.prior):
            chain = run_chain(self.kernel, target, x, self.steps, rng)
        return Walkers(chain.x, self.energy(chain.x), log_w, log_z), chain.acceptance

    def state_dict(self) -> dict:
        return {"populations": [walkers._asdict() for walkers in self.populations], "log_z": self.log_z}

    def load_state_dict(self, state: dict) -> None:
        self.populations, self.log_z = [Walkers(**walkers) for walkers in state["populations"]], state["log_z"]

    def facts(self) -> dict:
        return {"log_z": self.log_z}
