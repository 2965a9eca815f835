"""Lower and upper estimates of log Z by annealed importance sampling, and the bound on log p(x) that follows."""

from __future__ import annotations

import math

import torch

from jebm.config.types import Annotated, Count, Field, Natural, Positive, Reference
from jebm.evaluations.base import Evaluation, Subject
from jebm.metrics.likelihood import importance_weighted, log_weights
from jebm.metrics.records import MetricRecord
from jebm.sampling.annealed import (
    Annealing,
    anneal_forward,
    anneal_reverse,
    inverse_temperatures,
    log_mean_weight,
    upper_bound,
)
from jebm.sampling.partition import estimate_log_partition, resample
from jebm.sampling.pcnl import CrankNicolsonLangevin
from jebm.sampling.run import run_chain
from jebm.sampling.target import Target


class Partition(Evaluation):
    """Estimates log Z by importance sampling and by annealing forward and in reverse; then the importance-weighted
    bound.

    Only the reverse estimate, which exceeds log Z in expectation, leaves the bound on log p(x) a lower bound. It starts
    from importance-resampled draws and depends on their quality, so their effective sample size is reported.

    Bits per dimension are −[log p(x) + D log w] / (D log 2). D is the number of pixel values of an image, and w = 2 /
    (levels − 1) is the distance between two grey levels: the density at the pixel values is multiplied by the volume of
    a grid cell. This approximates the probability of a cell by its midpoint. It is no bound on the likelihood of a
    dequantised or discretised model, and the outermost cells are counted whole.

    Args:
        reference: split whose log p(x) is bounded.
        temperatures: number of steps of each annealing run.
        chains: number of annealing runs in each direction.
        start_steps: transitions on the density itself between resampling and the start of the reverse runs. They leave
            it invariant and separate copies of draws that were chosen several times.
        step_size: step size of the adjusted Crank–Nicolson kernel, a standard deviation below 1.
        pool: number of Gaussian draws for importance sampling, and again for resampling.
        importance_samples: number of draws from q(z|x) per image.
    """

    metrics = {
        "log_z": ("log Z", 0, 3, "log partition function of the tilt, nats; annealed from below and above"),
        "log_z_se": ("s.e.", 0, 3, "standard error of log Z by the delta method, nats"),
        "log_z_ess": ("effective fraction", 1, 3, "(Σw)² / (n Σw²) of the weights behind log Z"),
        "log_z_gap": ("gap", 0, 3, "upper less lower annealed log Z, nats; bounds in expectation, so noise may cross"),
        "annealing_acceptance": ("acceptance", 0, 3, "accepted fraction of the proposals of both annealing runs"),
        "iw_bound_annealed": ("IW bound", 1, 2, "importance-weighted bound on log p(x) with the upper log Z, nats"),
        "bits_per_dim": ("bits/dim", -1, 3, "the same in bits a pixel value, density times cell volume"),
    }

    def __init__(
        self,
        *,
        reference: Reference = "test",
        temperatures: Count = 200,
        chains: Count = 500,
        start_steps: Natural = 50,
        step_size: Annotated[Positive, Field(lt=1)] = 0.35,
        pool: Count = 100_000,
        importance_samples: Count = 100,
    ):
        self.reference, self.temperatures, self.chains = reference, temperatures, chains
        self.kernel = CrankNicolsonLangevin(step_size=step_size, adjusted=True)
        self.start_steps, self.pool, self.importance_samples = start_steps, pool, importance_samples

    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        if subject.prior.normalised:
            self._add_likelihood(subject, record, 0.0)
            return {}
        dimensions = subject.hierarchy.dimensions
        plain = estimate_log_partition(subject.prior, dimensions, self.pool, subject.rng("importance sampling"))
        forward, reverse = self._anneal(subject, dimensions)
        lower, upper = log_mean_weight(forward), upper_bound(reverse)
        facts = {
            "temperatures": self.temperatures,
            "chains": self.chains,
            "step_size": self.kernel.step_size,
            "pool": self.pool,
            "reverse_start": f"resampled from Gaussian draws, then {self.start_steps} steps",
        }
        protocol = record.protocol("log-z", facts)
        estimates = {"importance": (plain, self.pool), "lower": (lower, self.chains), "upper": (upper, self.chains)}
        for name, (log_z, n) in estimates.items():
            record.add("log_z", log_z.value, n, protocol, set=name)
            record.add("log_z_se", log_z.standard_error, n, protocol, set=name)
            record.add("log_z_ess", log_z.effective_fraction, n, protocol, set=name)
        record.add("log_z_gap", upper.value - lower.value, self.chains, protocol)
        record.add("annealing_acceptance", (forward.acceptance + reverse.acceptance) / 2, self.chains, protocol)
        self._add_likelihood(subject, record, upper.value)
        return {"forward": forward.log_weights, "reverse": reverse.log_weights}

    def _anneal(self, subject: Subject, dimensions: int) -> tuple[Annealing, Annealing]:
        betas, progress = inverse_temperatures(self.temperatures), subject.progress()
        rng = subject.rng("annealing forward")
        start = torch.randn(self.chains, dimensions, generator=rng, device=rng.device)
        forward = anneal_forward(subject.prior, start, betas, self.kernel, rng, progress)
        rng = subject.rng("annealing reverse")
        start, _ = resample(subject.prior, dimensions, self.chains, self.pool, rng)
        start = run_chain(self.kernel, Target(subject.prior.tilt), start, self.start_steps, rng).x
        return forward, anneal_reverse(subject.prior, start, betas, self.kernel, rng, progress)

    def _add_likelihood(self, subject: Subject, record: MetricRecord, log_z: float) -> None:
        x, draws = subject.pixels(self.reference), self.importance_samples
        weights = log_weights(subject.hierarchy, subject.prior, x, draws, subject.rng("bound"))
        log_p = importance_weighted(weights.gaussian + weights.tilt - log_z)
        size, width = x[0].numel(), 2 / (subject.data.levels - 1)
        # The protocol does not contain how log Z was found, so that priors with an exact log Z can be compared.
        about = {**subject.facts(self.reference), "draws": draws, "log_z": "exact, or annealed from above"}
        protocol = record.protocol(f"iw{draws}-ais", about)
        record.add("iw_bound_annealed", log_p.mean(), len(x), protocol)
        bits = bits_per_dimension(float(log_p.mean()), size, width)
        record.add("bits_per_dim", bits, len(x), record.protocol(f"bpd-iw{draws}-ais", {**about, "cell": width}))


def bits_per_dimension(log_p: float, dimensions: int, width: float) -> float:
    """−[log p + D log width] / (D log 2): a log density in nats as bits per dimension, for D values in cells of
    ``width``."""
    return -(log_p / dimensions + math.log(width)) / math.log(2)
