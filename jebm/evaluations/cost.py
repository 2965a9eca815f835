"""What a prior costs: operations of its training and of its sampler, which two machines count alike."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from jebm.config.components import blocks_in, build, load
from jebm.data.batches import Pixels
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.base import Hierarchy
from jebm.models.priors.base import Prior, build_prior
from jebm.runtime.random import make_rng
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile


class Cost:
    """Counts the floating-point operations of stage 2 and of the sampler, for the figure ``pareto``.

    Matrix products and convolutions are counted, forward and backward, a product and a sum as two; what works element
    by element (activations, splines, random numbers) is not. Counts do not depend on weights, so the networks have
    random ones. Training is counted in its first two steps, and extrapolated; the selection by the validation split is
    left out. An EM fit counts as ``EM_ITERATIONS`` iterations for each candidate number of components, and a mixture
    has the largest of these numbers.
    """

    stage = "count_operations"
    """Its jobs are of a kind of their own, since they read the settings of training and of the sampler."""
    metrics = {
        "training_operations": (
            "training, GFLOP",
            -1,
            1,
            "floating-point operations of stage 2 in matrix products and convolutions, without selection",
            1e-9,
        ),
        "sampling_operations": (
            "sampling, MFLOP",
            -1,
            3,
            "floating-point operations per sample of latents, in matrix products and convolutions",
            1e-6,
        ),
        "sampling_seconds": ("sampling, s", -1, 2, "CPU seconds for 200 samples of latents, in this run"),
    }

    def __init__(self):
        """There is nothing to set."""

    def count(
        self, params: Any, hierarchy: Hierarchy, data: dict[str, Pixels], record: MetricRecord, device: str
    ) -> None:
        """Add the counts, and the time of the sampler, to the record.

        Args:
            params: the variant.
            hierarchy: its backbone with any weights, frozen.
            data: the images of the splits for training.
        """
        protocol = record.protocol("operations", {"counted": "matrix products and convolutions", "backward": True})
        training, prior = training_operations(params, hierarchy, data, device)
        record.add("training_operations", training, 1, protocol)
        count = params.draw_samples.count
        record.add("sampling_operations", sampling_operations(params, prior.eval(), count, device), count, protocol)
        started = time.process_time()
        draw_latents(params, prior, DRAWS[1], device)
        record.time("sampling_seconds", time.process_time() - started)


DRAWS = (100, 200)
"""Numbers of samples from which those of a whole set are extrapolated; the sampler may make a pool whatever the
number."""


@torch.no_grad()
def draw_latents(params: Any, prior: Prior, count: int, device: str) -> None:
    """Draw latents by the variant's sampler."""
    sampler, rng = build("sampler", params.draw_samples.sampler), make_rng("cost", device=device)
    sampler.draw(prior.requires_grad_(False), prior.hierarchy.dimensions, count, rng, lambda *_: None)


def sampling_operations(params: Any, prior: Prior, count: int, device: str) -> float:
    """The operations per sample in a set of ``count`` samples."""
    totals = []
    for draws in DRAWS:
        with Operations() as counted:
            draw_latents(params, prior, draws, device)
        totals.append(counted.total)
    slope = (totals[1] - totals[0]) / (DRAWS[1] - DRAWS[0])
    return (totals[0] + slope * (count - DRAWS[0])) / count


class Operations(TorchDispatchMode):
    """A context that counts the floating-point operations of matrix products and convolutions, in ``total``."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if counted := flop_registry.get(function._overloadpacket):
            self.total += counted(*args, **(kwargs or {}), out_val=out)
        return out


EM_ITERATIONS = 100
"""Of an EM fit; a nominal number, since the iterations until convergence depend on the data (about 80 for 80 components
on MNIST)."""


def mixture_operations(part: Any, hierarchy: Hierarchy, images: Pixels) -> float:
    """The operations of the fit of a mixture: inference of its draws, and for each iteration and component the products
    of all draws with a factor of the precision and for the covariance, 2 n d² each."""
    draws = min(len(images), part.images or len(images)) * part.draws
    with Operations() as one:
        hierarchy.infer(images[torch.arange(1)], make_rng("cost"))
    per_component = 4 * draws * hierarchy.dimensions**2
    counted = 4 * max(part.components)  # draws of the two splits in the fit that `training_operations` makes
    return (draws - counted) * one.total + EM_ITERATIONS * per_component * sum(part.components)


def training_operations(params: Any, hierarchy: Hierarchy, data: dict[str, Pixels], device: str) -> tuple[float, Prior]:
    """The operations of stage 2, and the prior after two steps of it.

    The number is an affine function of each number of steps (of stage 2, and of parts with a training of their own), so
    it follows from trainings of one and two steps.
    """
    block, settings = params.prior, params.train_prior
    if block.traits.fit is None:
        return 0, build_prior(block, hierarchy)
    steps = {path: part.steps for path, part in blocks_in(block) if "learning_rate" in type(part).model_fields}
    mixtures = {path: part for path, part in blocks_in(block) if part.name == "mixture"}
    em = sum(mixture_operations(part, hierarchy, data["train"]) for part in mixtures.values())
    data = data | {"validation": data["validation"][torch.arange(1)]}  # so that selection costs next to nothing
    if block.traits.by_gradient:
        steps["train_prior"] = settings.steps

    def fit(now: dict[str, int]) -> tuple[int, Prior]:
        short = settings.model_copy(update={"steps": now.get("train_prior", 1), "select": None, "snapshots": 0})
        spec = _with_steps(block.model_dump(), now)
        for path, part in mixtures.items():  # its products are counted above
            most = max(part.components)
            _part(spec, path).update(components=[most], draws=2 * most, images=1)
        prior = build("prior", spec, hierarchy).to(device)
        with tempfile.TemporaryDirectory() as folder, Operations() as counted:
            run = TrainingRun("cost", StateFile(Path(folder), {}), make_rng("cost", device=device))
            load(block.traits.fit)(prior, data, short, run)
        return counted.total, prior

    one = dict.fromkeys(steps, 1)
    first, prior = fit(one)
    total = first + em
    for path, count in steps.items():
        more, prior = fit(one | {path: 2})
        total += (more - first) * (count - 1)
    return total, prior


def _with_steps(spec: dict[str, Any], steps: dict[str, int]) -> dict[str, Any]:
    """The block of a prior with other numbers of steps in the parts at these dotted paths; the empty one is itself."""
    for path, count in steps.items():
        if path != "train_prior":
            _part(spec, path)["steps"] = count
    return spec


def _part(spec: dict[str, Any], path: str) -> dict[str, Any]:
    for key in path.split(".") if path else ():
        spec = spec[key]
    return spec
