"""The KL of each latent layer of a deep hierarchy, and how well its energy term separates posterior from prior
samples."""

from __future__ import annotations

import torch

from jebm.config.components import build
from jebm.config.types import Count, KernelBlock, Reference
from jebm.data.batches import Pixels, batches
from jebm.evaluations.base import Evaluation, Subject
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import TopDown
from jebm.models.energies.base import Energy
from jebm.models.nets import frozen
from jebm.models.priors.ebm import JointPrior
from jebm.sampling.run import run_chain
from jebm.sampling.samplers.base import refuse_non_finite
from jebm.sampling.spaces import SPACES


class EnergyGaps(Evaluation):
    """For each layer (z1, …) its KL, and for each term of f the energy gap E[f_i(z⁺)] − E[f_i(z⁻)], in nats.

    z⁺ is one draw from q(z | x) per image, z⁻ are the final states of equally many chains on the prior. The gap is near
    0 at the optimum if the chains are long enough. Only sums are stored, so memory bounds neither layers nor images. A
    prior without energies has only KLs.

    Args:
        kernel: transition kernel of the chains, in whitened space.
        steps: number of transitions, starting from N(0, I).
        reference: split whose images are inferred.
        count: number of images, the first ones of the split.
        batch_size: number of images, and of chains, that are processed at once.
    """

    metrics = {
        "energy_gap": ("energy gap", 0, 3, "mean of f_i on posterior draws less its mean where chains end, nats"),
        "energy_gap_total": ("total energy gap", 0, 3, "energy gap of f: the sum over its terms, nats"),
    }

    def __init__(
        self,
        *,
        kernel: KernelBlock,
        steps: Count,
        reference: Reference = "test",
        count: Count = 1000,
        batch_size: Count = 100,
    ):
        self.kernel, self.steps = build("kernel", kernel), steps
        self.reference, self.count, self.batch_size = reference, count, batch_size

    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        pixels = Pixels(subject.data.images(self.reference)[: self.count], subject.data.levels, subject.device)
        energy = subject.prior.energy if isinstance(subject.prior, JointPrior) else None
        kl, gaps, done, progress = 0.0, 0.0, 0, subject.progress()
        posterior, chains = subject.rng("posterior"), subject.rng("chains")
        for x in batches(pixels, self.batch_size):
            with torch.no_grad():
                draw = subject.hierarchy.infer(x, posterior)
                kl = kl + draw.kl.double().sum(0)
            if energy:
                gaps = gaps + self._gap(subject, energy, draw.top, len(x), chains)
            done += len(x)
            progress("images", done, len(pixels))
        facts = {**subject.facts(self.reference), "draws": 1}
        layers = record.protocol("layer-kl", facts)
        for layer, value in enumerate(kl / done):
            record.add("kl", value, done, layers, layer=f"z{layer + 1}")
        record.add("kl_total", kl.sum() / done, done, layers)
        if energy:
            chain = {"steps": self.steps, "step_size": self.kernel.step_size, "adjusted": self.kernel.adjusted}
            contrast = record.protocol("energy-gap", {**facts, **chain})
            for name, gap in zip(energy.nets, gaps / done, strict=True):
                record.add("energy_gap", gap, done, contrast, layer=f"z{name}")
            record.add("energy_gap_total", gaps.sum() / done, done, contrast)
        return {}

    def _gap(
        self, subject: Subject, energy: Energy, positive: TopDown, count: int, rng: torch.Generator
    ) -> torch.Tensor:
        """For a batch, the sum of each term over posterior draws minus its sum over the final states of chains,
        (terms,), float64."""
        space = SPACES["whitened"](subject.hierarchy, subject.prior)
        start = space.start("normal", count, rng)
        with frozen(subject.prior):
            chain = run_chain(self.kernel, space.target(), start, self.steps, rng)
        refuse_non_finite(int(chain.non_finite), count, self.steps)
        with torch.no_grad():
            return (energy.terms(positive) - energy.terms(space.top_down(chain.x))).double().sum(0)
