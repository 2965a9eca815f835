"""A test whether chains in whitened space leave the noise white for f = 0, where nothing has been learned.

Under the density of the joint prior, the noise of every layer remains N(0, I) except for the effect of the step size on
its variance. Under the published biased density it drifts in every backbone whose σ_i depend on the layers above.
"""

from __future__ import annotations

import torch

from jebm.config.components import build
from jebm.config.types import Count, KernelBlock
from jebm.evaluations.base import Evaluation, Subject
from jebm.metrics.records import MetricRecord
from jebm.models.energies.zero import ZeroPrior
from jebm.sampling.run import run_chain
from jebm.sampling.samplers.base import refuse_non_finite
from jebm.sampling.spaces import SPACES

DENSITIES = {"exact": "whitened", "biased": "whitened-biased"}
"""Name of a density → the space of its chain."""


class Whiteness(Evaluation):
    """Moments of the noise after ``steps`` steps from N(0, I) with f = 0, for each density and layer: ``exact/z1``, …

    Only the variant's backbone is used, not its prior. Chains of both densities receive the same noise. The final
    states of all chains are held in memory: 2 · count · dimensions numbers.

    Args:
        kernel: transition kernel. The known effect of an unadjusted Langevin step on the variance of N(0, I) is
            reported as well; other kernels do not change it.
        steps: number of transitions.
        count: number of chains. The standard error of the mean of a dimension is 1/√count.
        batch_size: number of chains that run at once.
    """

    metrics = {
        "noise_mean": ("mean of ε", -1, 4, "rms over a layer's dimensions of the noise's mean after a chain, f = 0"),
        "noise_variance": ("variance of ε", 0, 4, "mean over a layer's dimensions of the noise's variance, f = 0"),
        "noise_variance_predicted": ("predicted", 0, 4, "the variance that the kernel's step size leads to, f = 0"),
        "noise_mean_worst": ("worst mean of ε", -1, 4, "the largest over layers of the mean of ε; f = 0"),
        "noise_variance_error": ("variance error", -1, 4, "largest over layers, variance of ε less the predicted"),
    }

    def __init__(self, *, kernel: KernelBlock, steps: Count = 100, count: Count = 2000, batch_size: Count = 2000):
        self.kernel, self.steps, self.count, self.batch_size = build("kernel", kernel), steps, count, batch_size

    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        predicted = self.kernel.variance_on_normal(self.steps)
        facts = {"chains": self.count, "steps": self.steps, "step_size": self.kernel.step_size, "f": 0}
        protocol = record.protocol("whiteness", facts)
        record.add("noise_variance_predicted", predicted, self.count, protocol)
        eps, arrays = {}, {"predicted": torch.tensor([predicted])}
        for name in DENSITIES:
            eps[name] = self._ends(name, subject)
            means, variances = moments(subject.hierarchy.split(eps[name]))
            for layer in range(len(means)):
                where = {"set": name, "layer": f"z{layer + 1}"}
                record.add("noise_mean", means[layer], self.count, protocol, **where)
                record.add("noise_variance", variances[layer], self.count, protocol, **where)
            record.add("noise_mean_worst", means.max(), self.count, protocol, set=name)
            error = (variances - predicted).abs().max()
            record.add("noise_variance_error", error, self.count, protocol, set=name)
            arrays |= {f"{name}/mean": means, f"{name}/variance": variances}
        # The figure shows the dimension that the biased density shifts most, under both densities.
        worst = int(eps["biased"].mean(0).abs().argmax())
        return arrays | {f"{name}/draws": draws[:, worst].float() for name, draws in eps.items()}

    def _ends(self, name: str, subject: Subject) -> torch.Tensor:
        """The final states of the chains on one density, (count, dimensions)."""
        space = SPACES[DENSITIES[name]](subject.hierarchy, ZeroPrior(subject.hierarchy))
        rng, progress, ends = subject.rng("whiteness"), subject.progress(), []
        while (done := sum(map(len, ends))) < self.count:
            start = space.start("normal", min(self.batch_size, self.count - done), rng)
            result = run_chain(self.kernel, space.target(), start, self.steps, rng)
            refuse_non_finite(int(result.non_finite), len(start), self.steps)
            ends.append(result.x)
            progress(f"{name} chains", done + len(start), self.count)
        return torch.cat(ends)


def moments(layers: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """For each layer's noise (chains, *shape): the root mean square over dimensions of the means over chains, and the
    mean of the variances; both (layers,). For white noise they are 0, up to 1/√chains, and 1."""
    flat = [layer.flatten(1).double() for layer in layers]
    means = torch.stack([layer.mean(0).square().mean().sqrt() for layer in flat])
    return means.float(), torch.stack([layer.var(0).mean() for layer in flat]).float()
