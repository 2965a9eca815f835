"""The way of chains from N(0, I): the images of a few of them step by step, and the tilt of many."""

from __future__ import annotations

import torch

from jebm.config.components import build
from jebm.config.types import Count, KernelBlock, Reference, Steps
from jebm.data.dataset import quantise
from jebm.evaluations.base import Evaluation, Subject
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import flatten
from jebm.models.nets import frozen
from jebm.sampling.closed_form.gradients import prior_target
from jebm.sampling.run import run_chain


class Trajectories(Evaluation):
    """States of chains from N(0, I) in whitened space after several numbers of steps, for figures.

    Stored are the images of the first chains, and the tilt (f where the base is N(0, I); nats, a *negative* energy) of
    all chains and of one posterior draw per image. The state after 0 steps is a draw of the Gaussian prior.

    Args:
        kernel: transition kernel of the chains.
        steps: numbers of steps after which states are stored; 0 is the initial state.
        reference: split whose images are inferred.
        count: number of chains, and of inferred images, the first ones of the split.
        shown: number of chains whose images are stored.
    """

    def __init__(
        self,
        *,
        kernel: KernelBlock,
        steps: Steps = [0, 1, 2, 5, 10, 20, 40, 80, 160, 320],  # noqa: B006
        reference: Reference = "test",
        count: Count = 1000,
        shown: Count = 8,
    ):
        self.kernel, self.steps = build("kernel", kernel), sorted(set(steps))
        self.reference, self.count, self.shown = reference, count, shown

    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        hierarchy, prior, rng = subject.hierarchy, subject.prior, subject.rng("chains")
        start = torch.randn(self.count, hierarchy.dimensions, generator=rng, device=rng.device)
        states, progress = {0: start}, subject.progress()

        def watch(step: int, state) -> None:
            if step in self.steps:
                states[step] = state.x.detach()
                progress("steps", step, self.steps[-1])

        with frozen(prior):
            run_chain(self.kernel, prior_target(prior, "closed-form"), start, self.steps[-1], rng, watch)
        kept = [states[step] for step in self.steps]
        pixels = subject.data.pixels(self.reference)[: self.count].split(hierarchy.max_batch_size())
        with torch.no_grad():
            rng = subject.rng("posterior")
            posterior = torch.cat([flatten(hierarchy.infer(x.to(subject.device), rng).eps) for x in pixels])
            return {
                "steps": torch.tensor(self.steps),
                "images": torch.stack([self._decode(subject, eps[: self.shown]) for eps in kept]),
                "tilt/chains": torch.stack([self._tilt(subject, eps) for eps in kept]),
                "tilt/posterior": self._tilt(subject, posterior),
            }

    @staticmethod
    def _decode(subject: Subject, eps: torch.Tensor) -> torch.Tensor:
        """The means of p(x | z), quantised to the grey levels of the data, uint8."""
        hierarchy = subject.hierarchy
        return quantise(hierarchy.decode(hierarchy.top_down_flat(eps)).mean, subject.data.levels)

    @staticmethod
    def _tilt(subject: Subject, eps: torch.Tensor) -> torch.Tensor:
        """The tilt of flat ε, (count,), nats."""
        return torch.cat([subject.prior.tilt(part) for part in eps.split(subject.hierarchy.max_batch_size())])
