"""log Z from both sides by annealed importance sampling, and the bound on log p(x) with it."""

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
    """Importance sampling, annealed forward and reverse; then the importance-weighted bound with the upper log Z.

    Of the three only the reverse estimate, which is above log Z in expectation, keeps the bound on log p(x) a bound.
    It starts from importance-resampled draws: it is as good as they are, so their effective sample size stands beside.

    Bits per dimension are −[log p(x) + D log w] / (D log 2), w = 2 / (levels − 1) being the distance of two grey
    levels: the density of the continuous model at the pixel values times the volume of a grid cell. That stands for
    the probability of a cell by its midpoint; it is no bound on the likelihood of a dequantised or discretised model,
    and the outermost cells are counted whole. D is the number of pixel values of an image.

    Args:
        reference: the split whose log p(x) is bounded.
        temperatures: steps of each annealing run.
        chains: annealing runs in each direction.
        start_steps: transitions on the density itself between resampling and the start of the reverse runs: they leave
            it invariant, and part the copies of a draw that was chosen many times.
        step_size: of the adjusted Crank–Nicolson transitions, a standard deviation below 1.
        pool: Gaussian draws behind plain importance sampling, and again behind the start of the reverse runs.
        importance_samples: draws of q(z|x) for each image.
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
        plain = estimate_log_partition(subject.prior, dimensions, self.pool, subject.stream("importance sampling"))
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
        stream = subject.stream("annealing forward")
        start = torch.randn(self.chains, dimensions, generator=stream, device=stream.device)
        forward = anneal_forward(subject.prior, start, betas, self.kernel, stream, progress)
        stream = subject.stream("annealing reverse")
        start, _ = resample(subject.prior, dimensions, self.chains, self.pool, stream)
        start = run_chain(self.kernel, Target(subject.prior.tilt), start, self.start_steps, stream).x
        return forward, anneal_reverse(subject.prior, start, betas, self.kernel, stream, progress)

    def _add_likelihood(self, subject: Subject, record: MetricRecord, log_z: float) -> None:
        x, draws = subject.pixels(self.reference), self.importance_samples
        weights = log_weights(subject.hierarchy, subject.prior, x, draws, subject.stream("bound"))
        log_p = importance_weighted(weights.gaussian + weights.tilt - log_z)
        size, width = x[0].numel(), 2 / (subject.data.levels - 1)
        # How log Z was found is no part of the protocol: priors with an exact one are compared with the others.
        about = {**subject.facts(self.reference), "draws": draws, "log_z": "exact, or annealed from above"}
        protocol = record.protocol(f"iw{draws}-ais", about)
        record.add("iw_bound_annealed", log_p.mean(), len(x), protocol)
        bits = bits_per_dimension(float(log_p.mean()), size, width)
        record.add("bits_per_dim", bits, len(x), record.protocol(f"bpd-iw{draws}-ais", {**about, "cell": width}))


def bits_per_dimension(log_p: float, dimensions: int, width: float) -> float:
    """−[log p + D log width] / (D log 2): a log density in nats as bits for each of D values in cells of ``width``."""
    return -(log_p / dimensions + math.log(width)) / math.log(2)
