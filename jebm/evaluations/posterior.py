"""Accuracy of posterior approximations: the inference network, a chain from a cold start, and a chain that starts at
the network.

All are compared with long Metropolis-adjusted chains, preconditioned for each image. Half of these start at the network
and half at N(0, I); R-hat tells whether they agree and can therefore serve as the reference.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from jebm.config.components import build
from jebm.config.types import Annotated, Count, Counts, Field, KernelBlock, Positive, Reference
from jebm.evaluations.base import Evaluation, Subject
from jebm.metrics.likelihood import importance_weighted
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import flatten, standard_normal_log_prob
from jebm.sampling.diagnostics import r_hat
from jebm.sampling.long_chains import LongChainDraws, fit_affine_map, pool_chains, run_long_chains
from jebm.sampling.partition import effective_fraction
from jebm.sampling.posterior import posterior_target

ROWS = 20_000
"""Largest number of latents that are evaluated at once."""
EVERY_STEP_UNTIL, THEN_EVERY = 20, 5
"""The short chains are measured at every step up to the first number, then in intervals of the second number."""


CEILING = 10.0
"""Largest R-hat that is reported: chains that never move have an infinite R-hat."""


class Network(NamedTuple):
    """Draws from the inference network."""

    eps: torch.Tensor
    """(images, draws, dimensions)."""
    log_q: torch.Tensor
    """(images, draws), nats."""


class Measured(NamedTuple):
    log_joint: torch.Tensor
    """log p(x | T(ε)) + tilt(ε) + log N(ε; 0, I), (images, draws), nats: log p(x, ε) up to log Z, in whitened
    coordinates. log p(x, z) is smaller by log |det ∂T/∂ε|, which depends on z."""
    error: torch.Tensor
    """Mean squared error of the decoded mean, per pixel, (images, draws)."""


class PosteriorAccuracy(Evaluation):
    """Log joint, reconstruction error, tightness of the bound, calibration, and the time to reach a given accuracy.

    Args:
        kernel: transition kernel of the cold and the warm chains, in whitened space; their steps are also the burn-in
            of the reference chains.
        reference: split that is measured.
        images: number of images, the first ones of the split.
        chains: number of chains per image, half of them cold and half warm.
        steps: number of steps of the cold and the warm chains.
        shown_steps: numbers of steps after which these chains are compared with the reference.
        adaptation: numbers of steps of the rounds that fit the preconditioner of the reference chains.
        reference_steps: number of steps of the reference chains.
        reference_step_size: step size of the reference chains in preconditioned space, a standard deviation.
        importance_samples: values of K for the importance-weighted bounds IW-K; the largest is the number of draws.
        tolerance: difference of the log joint, in nats, within which a chain counts as accurate.
    """

    metrics = {
        "log_joint": ("log joint", 0, 2, "mean log p(x, ε) of posterior draws without log Z, nats per image"),
        "log_joint_gap": ("log joint − ref.", 0, 2, "log joint less that of the reference chains, nats; 0 is right"),
        "reconstruction_mse": ("MSE ×10⁻³", 0, 2, "squared error of the decoded mean, per pixel", 1000.0),
        "iw_gap": ("IW gap", -1, 3, "log p(x) less the network's importance-weighted bound with K draws, nats"),
        "importance_ess": ("ESS", 1, 3, "effective fraction of the importance weights of one image's draws"),
        "mean_error": ("mean error", -1, 3, "rms error of the network's mean, in posterior sds; 0 is right"),
        "variance_ratio": ("variance ratio", 0, 3, "network's over reference's variance, geometric mean; 1 is right"),
        "residual_sd": ("residual sd", 0, 3, "sd of the reference's draws as the network standardises; 1 is right"),
        "r_hat_worst": ("worst R-hat", -1, 3, "R-hat of the image where it is largest"),
        "converged": ("converged", 1, 2, "fraction of images whose reference chains have R-hat below 1.1"),
        "reference_acceptance": ("acceptance", 0, 3, "accepted fraction of the reference chains' proposals"),
        "accuracy_reached": ("reached", 1, 2, "whether the mean log joint came within tolerance of the reference's"),
        "steps_to_accuracy": ("steps", -1, 0, "steps until it did; the chain's length where it did not"),
        "seconds_to_accuracy": ("seconds", 0, 2, "the time that these steps took in this run"),
        "posterior_seconds": ("seconds", 0, 3, "time for as many draws as there are cold chains, in this run"),
    }

    def __init__(
        self,
        *,
        kernel: KernelBlock,
        reference: Reference = "test",
        images: Count = 50,
        chains: Annotated[Count, Field(ge=2, multiple_of=2)] = 8,
        steps: Count = 200,
        shown_steps: Counts = [20, 200],  # noqa: B006
        adaptation: Counts = [100, 150],  # noqa: B006
        reference_steps: Annotated[Count, Field(ge=4)] = 400,
        reference_step_size: Positive = 0.8,
        importance_samples: Counts = [1, 10, 100, 1000],  # noqa: B006
        tolerance: Positive = 0.5,
    ):
        self.kernel, self.reference, self.images, self.chains = build("kernel", kernel), reference, images, chains
        self.kernel_facts = kernel.model_dump(mode="json")
        self.steps, self.shown_steps = steps, sorted(k for k in set(shown_steps) if k <= steps)
        self.adaptation, self.reference_steps = adaptation, reference_steps
        self.reference_step_size, self.tolerance = reference_step_size, tolerance
        self.importance_samples = sorted(set(importance_samples))

    def evaluate(self, subject: Subject, record: MetricRecord) -> dict[str, torch.Tensor]:
        x = subject.pixels(self.reference)[: self.images]
        network = self._network(subject, x, record)
        path, seconds = self._short_chains(subject, x)
        repeated = x.repeat_interleave(self.chains, 0)
        target = posterior_target(subject.hierarchy, subject.prior, repeated)
        rng, started = subject.rng("posterior reference"), time.perf_counter()
        settings = self.adaptation, self.reference_steps, self.reference_step_size
        long = run_long_chains(target, path[len(path) // 2 :], *settings, rng)
        record.time("posterior_seconds", time.perf_counter() - started, set="reference")
        report = _Report(self, subject, record, x, long)
        report.convergence()
        measured = report.measure(network.eps)
        report.draws(measured, set="network")
        arrays = report.chains(path, seconds)
        report.reference()
        report.bound(network, measured, subject.rng("posterior importance"))
        report.calibration(network.eps)
        return arrays | {"network": report.gap(measured), "reference": long.log_prob.mean((0, 1)) - report.log_joint}

    @torch.no_grad()
    def _network(self, subject: Subject, x: torch.Tensor, record: MetricRecord) -> Network:
        """Draw as many samples per image as the largest K."""
        draws, rng = self.importance_samples[-1], subject.rng("posterior network")
        rows, found = x.repeat_interleave(draws, 0), []
        started = time.perf_counter()
        for part in rows.split(subject.hierarchy.max_batch_size(ROWS)):
            posterior = subject.hierarchy.infer(part, rng)
            found.append((flatten(posterior.eps), posterior.log_q.sum(1)))
        share = self.chains / 2 / draws  # scales the time to as many draws as there are cold chains
        record.time("posterior_seconds", (time.perf_counter() - started) * share, set="network")
        eps, log_q = (torch.cat(parts).unflatten(0, (len(x), draws)) for parts in zip(*found, strict=True))
        return Network(eps, log_q)

    def _short_chains(self, subject: Subject, x: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Every state of the cold (first half) and the warm chains, (steps + 1, images, chains, dimensions), and the
        seconds per step of one half."""
        rng, half = subject.rng("posterior chains"), self.chains // 2
        rows = x.repeat_interleave(half, 0)
        warm = flatten(subject.hierarchy.infer(rows, rng).eps).unflatten(0, (len(x), half))
        cold = torch.randn(warm.shape, generator=rng, device=x.device)
        target = posterior_target(subject.hierarchy, subject.prior, x.repeat_interleave(self.chains, 0))
        shape, progress = (len(x), self.chains, warm.shape[2]), subject.progress()
        state = self.kernel.evaluate(target, torch.cat([cold, warm], 1).flatten(0, 1))
        path, started = [state.x.detach().reshape(shape)], time.perf_counter()
        for step in range(self.steps):
            state, _ = self.kernel.step(target, state, rng)
            path.append(state.x.reshape(shape))
            progress("posterior chains", step + 1, self.steps)
        return torch.stack(path), (time.perf_counter() - started) / self.steps / 2


class _Report:
    """Compares draws with those of the reference chains, and records the values."""

    def __init__(
        self, settings: PosteriorAccuracy, subject: Subject, record: MetricRecord, x: torch.Tensor, long: LongChainDraws
    ):
        self.settings, self.subject, self.record, self.x, self.long = settings, subject, record, x, long
        self.pooled, self.log_joint = pool_chains(long.eps), long.log_prob.mean()
        facts = {
            **subject.facts(settings.reference),
            "images": len(x),
            "kernel": settings.kernel_facts,
            "chains": settings.chains,
            "reference_chains": [settings.steps, *settings.adaptation, settings.reference_steps],
            "reference_step_size": settings.reference_step_size,
            "log_joint": "in whitened coordinates, without log Z",
        }
        self.protocol = record.protocol("posterior", facts)
        importance = {"draws": settings.importance_samples[-1], "better_proposal": "Gaussian fit of the reference"}
        self.importance = record.protocol("posterior-iw", {**facts, **importance})
        self.accuracy = record.protocol("posterior-steps", {**facts, "tolerance": settings.tolerance})

    def add(self, metric: str, value: torch.Tensor | float, protocol: str = "", **about: str | int) -> None:
        self.record.add(metric, value, len(self.x), protocol or self.protocol, **about)

    @torch.no_grad()
    def measure(self, eps: torch.Tensor) -> Measured:
        """Evaluate draws (images, draws, dimensions) from the posterior of each image."""
        subject, found = self.subject, []
        images = self.x.repeat_interleave(eps.shape[1], 0)
        rows = subject.hierarchy.max_batch_size(ROWS)
        for part, x in zip(eps.flatten(0, 1).split(rows), images.split(rows), strict=True):
            top = subject.hierarchy.top_down_flat(part)
            likelihood = subject.hierarchy.decode(top)
            log_joint = likelihood.log_prob(x) + subject.prior.tilt_after(part, top) + standard_normal_log_prob(part)
            found.append((log_joint, (likelihood.mean - x).square().flatten(1).mean(1)))
        return Measured(*(torch.cat(parts).unflatten(0, eps.shape[:2]) for parts in zip(*found, strict=True)))

    def gap(self, measured: Measured) -> torch.Tensor:
        """Mean log joint of draws minus that of the reference chains, nats."""
        return measured.log_joint.mean() - self.log_joint

    def convergence(self) -> None:
        """R-hat of the reference chains for each image: the largest over the dimensions and the log joint."""
        followed = torch.cat([self.long.eps, self.long.log_prob.unsqueeze(-1)], -1)
        found = torch.stack([r_hat(image).amax() for image in followed.unbind(1)])
        each = torch.nan_to_num(found, nan=CEILING).clamp(max=CEILING)
        self.add("r_hat", each.mean())
        self.add("r_hat_worst", each.max())
        self.add("converged", (each < 1.1).double().mean())
        self.add("reference_acceptance", self.long.acceptance)

    def draws(self, measured: Measured, **about: str | int) -> None:
        """Record the log joint, its difference from the reference, and the reconstruction error."""
        self.add("log_joint", measured.log_joint.mean(), **about)
        self.add("log_joint_gap", self.gap(measured), **about)
        self.add("reconstruction_mse", measured.error.mean(), **about)

    def reference(self) -> None:
        """Record the values of the reference chains; their reconstruction error is measured on a tenth of the draws."""
        self.add("log_joint", self.log_joint, set="reference")
        self.add("log_joint_gap", 0.0, set="reference")
        self.add("reconstruction_mse", self.measure(self.pooled[:, ::10]).error.mean(), set="reference")

    def chains(self, path: torch.Tensor, seconds: float) -> dict[str, torch.Tensor]:
        """Record cold and warm chains after some steps, and the steps and seconds until they are accurate."""
        last, half = len(path) - 1, path.shape[2] // 2
        steps = [*range(min(last, EVERY_STEP_UNTIL)), *range(EVERY_STEP_UNTIL, last, THEN_EVERY), last]
        steps, arrays = sorted(set(steps)), {"steps": torch.tensor(sorted(set(steps)))}
        for name, part in (("cold", path[:, :, :half]), ("warm", path[:, :, half:])):
            for step in self.settings.shown_steps:
                self.draws(self.measure(part[step]), set=name, step=step)
                self.record.time("posterior_seconds", step * seconds, set=name, step=step)
            gaps = torch.stack([self.gap(self.measure(part[step])) for step in steps])
            reached = [step for step, gap in zip(steps, gaps, strict=True) if abs(gap) <= self.settings.tolerance]
            needed = reached[0] if reached else last
            self.add("accuracy_reached", bool(reached), self.accuracy, set=name)
            self.add("steps_to_accuracy", needed, self.accuracy, set=name)
            self.record.time("seconds_to_accuracy", needed * seconds, set=name)
            arrays[f"trace/{name}"] = gaps
        return arrays

    @torch.no_grad()
    def bound(self, network: Network, measured: Measured, rng: torch.Generator) -> None:
        """Record the gap between log p(x) and IW-K of the network. log p(x) is estimated by importance sampling from a
        Gaussian fit to the reference."""
        log_w = (measured.log_joint - network.log_q).double()
        images, draws = log_w.shape
        noise = torch.randn(network.eps.shape, generator=rng, device=rng.device)
        fit = fit_affine_map(self.pooled)
        eps = fit.repeat(draws).forward(noise.flatten(0, 1)).reshape(noise.shape)
        log_det = fit.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_fit = standard_normal_log_prob(noise.flatten(0, 1)).reshape(images, draws) - log_det.unsqueeze(1)
        better = (self.measure(eps).log_joint - log_fit).double()
        evidence = importance_weighted(better)
        fractions = [sum(effective_fraction(row) for row in rows) / images for rows in (log_w, better)]
        self.add("importance_ess", fractions[0], self.importance, set="network")
        self.add("importance_ess", fractions[1], self.importance, set="fit")
        for count in self.settings.importance_samples:
            blocks = log_w[:, : draws // count * count].unflatten(1, (-1, count))
            gap = (evidence - importance_weighted(blocks).mean(1)).mean()
            self.add("iw_gap", gap, self.importance, step=count)

    def calibration(self, eps: torch.Tensor) -> None:
        """Compare the network's means and variances of ε with those of the reference chains, per layer.

        ``mean_error``: root mean square of the difference of the means in standard deviations of the reference; 0 is
        exact. ``variance_ratio``: geometric mean of the network's variance divided by the reference's. ``residual_sd``:
        standard deviation of the reference draws in the network's standardised coordinates. Both are 1 if exact.
        """
        mean, variance = eps.mean(1), eps.var(1)
        own_mean, own_variance = self.pooled.mean(1), self.pooled.var(1)
        shift = (own_mean - mean).square()
        dims = self.subject.hierarchy.layer_dims
        quantities = shift / own_variance, torch.log(variance / own_variance), (own_variance + shift) / variance
        layers = zip(*(quantity.split(dims, 1) for quantity in quantities), strict=True)
        for number, (error, ratio, residual) in enumerate(layers, 1):
            self.add("mean_error", error.mean().sqrt(), layer=f"z{number}")
            self.add("variance_ratio", ratio.mean().exp(), layer=f"z{number}")
            self.add("residual_sd", residual.mean().sqrt(), layer=f"z{number}")
