"""The workloads of a variant: training steps, chains and samples, on synthetic pixels of the real shape."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from jebm.bench import plain
from jebm.config.components import build
from jebm.config.schema import Base
from jebm.config.training import Optimisation, TrainingChain, TrainJoint, TrainPrior
from jebm.config.types import LatentSpace
from jebm.models.backbones.base import Hierarchy
from jebm.models.nets import frozen
from jebm.models.precision import apply_layout_and_precision
from jebm.models.priors.base import Prior, build_prior
from jebm.models.priors.ebm import JointPrior
from jebm.models.priors.gaussian import GaussianPrior
from jebm.runtime.random import make_rng
from jebm.sampling.closed_form.gradients import prior_gradient
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import SPACES
from jebm.training.ebm import LikelihoodLoss
from jebm.training.elbo import ElboLoss
from jebm.training.joint import LOSSES
from jebm.training.loop import Trainer
from jebm.training.loss import Loss
from jebm.training.optimisers import ParameterGroup, joint_groups
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile

CLOSED = "closed form"


@dataclass(frozen=True)
class Workload:
    """An operation that a study performs many times.

    Attributes:
        what: its name in the table.
        batch: number of images or chains at once, as in the study.
        each: number of units in a call: 1 training step, the steps of a chain, or the samples.
        needed: number of these units that the study needs per seed.
        make: returns, for a batch size, the call, and its plain transcription if there is one.
        training: whether it is a training step.
    """

    what: str
    batch: int
    each: int
    needed: int
    make: Callable[[int], dict[str, Callable[[], object]]]
    training: bool = False


class Bench:
    """The networks of a variant with random weights on a device, and the workloads on them.

    Args:
        params: the variant.
        image_shape: shape of one image, without the batch dimension.
        folder: for training state, which is not kept.
    """

    def __init__(self, params: Base, image_shape: tuple[int, ...], device: torch.device, folder: Path):
        self.params, self.device, self.folder = params, device, folder
        self.rng = make_rng("bench", device=str(device))
        hierarchy = build("backbone", params.backbone, image_shape).to(device)
        hierarchy.initialise(self.rng)
        self.hierarchy: Hierarchy = apply_layout_and_precision(hierarchy, params.compute)
        self.prior: Prior = build_prior(params.prior, self.hierarchy).to(device)
        if isinstance(self.prior, JointPrior):
            self.prior.initialise(self.rng)
        self.image_shape = image_shape

    def pixels(self, count: int) -> torch.Tensor:
        return torch.rand(count, *self.image_shape, generator=self.rng, device=self.device) * 2 - 1

    def workloads(self) -> Iterator[Workload]:
        """Yield the workloads in the order in which the study performs them."""
        params = self.params
        stage_1 = params.train_joint is None or params.train_joint.start == "backbone"
        if stage_1 and params.train_backbone:  # otherwise the weights are imported
            yield self._training("stage 1 step", params.train_backbone, self._backbone_trainer)
        if params.train_joint is not None:
            yield self._training("joint step", params.train_joint, self._joint_trainer)
        elif self.prior.contrastive:
            yield self._training("stage 2 step", params.train_prior, self._prior_trainer)
        if isinstance(self.prior, JointPrior):
            yield from self._chains()
        sampler = params.draw_samples.sampler
        if sampler.name in ("mcmc", "ancestral") and isinstance(self.prior, JointPrior | GaussianPrior):
            batch = min(params.draw_samples.count, getattr(sampler, "chains", 1000))
            yield Workload("samples", batch, batch, params.draw_samples.count, self._samples)

    def _training(self, what: str, settings: Optimisation, trainer: Callable[[int], dict]) -> Workload:
        return Workload(what, settings.batch_size, 1, settings.steps, trainer, training=True)

    def _trainer(
        self, module: nn.Module, settings: Optimisation, loss: Loss, groups: Sequence[ParameterGroup] = ()
    ) -> Callable[[], None]:
        run = TrainingRun("bench", StateFile(self.folder, {}), self.rng)
        return Trainer(module, loss, settings, run, groups).advance

    def _backbone_trainer(self, batch: int) -> dict:
        settings, pixels = _with_batch(self.params.train_backbone, batch), self.pixels(batch)
        self.hierarchy.train().requires_grad_(True)
        loss = ElboLoss(self.hierarchy, pixels, settings, self.rng)
        return {"ours": self._trainer(self.hierarchy, settings, loss)}

    def _prior_trainer(self, batch: int) -> dict:
        settings, pixels = _with_batch(self.params.train_prior, batch), self.pixels(batch)
        self.hierarchy.eval().requires_grad_(False)
        self.prior.requires_grad_(True)
        loss = LikelihoodLoss(self.prior, pixels, settings, self.rng)
        return {"ours": self._trainer(self.prior, settings, loss)}

    def _joint_trainer(self, batch: int) -> dict:
        settings, pixels = _with_batch(self.params.train_joint, batch), self.pixels(batch)
        both = nn.ModuleDict({"hierarchy": self.hierarchy, "prior": self.prior}).train().requires_grad_(True)
        loss = LOSSES[settings.method](self.prior, pixels, settings, self.rng)
        groups = joint_groups(self.hierarchy, self.prior, settings)
        calls = {"ours": self._trainer(both, settings, loss, groups)}
        if settings.method == "mcmc" and plain.comparable(self.prior, settings.chain, settings.posterior_chain):
            calls["plain"] = plain.joint_step(self.hierarchy, self.prior, settings, pixels, self.rng)
        return calls

    def _chains(self) -> Iterator[Workload]:
        """The chains of training on their own, as configured in the study and with gradients in closed form."""
        joint, alone = self.params.train_joint, self.params.train_prior
        chains = {"prior chain": training_chain(joint or alone)}
        if joint and joint.posterior_chain:
            chains["posterior chain"] = joint.posterior_chain
        settings = joint or alone
        for what, chain in chains.items():
            if chain is None:
                continue
            kinds = [chain]
            if chain.gradients == "autograd" and (what != "prior chain" or self._has_closed_form(chain.space)):
                kinds.append(chain.model_copy(update={"gradients": "closed-form"}))
            for kind in kinds:
                label = f"{what} step" + (f", {CLOSED}" if kind.gradients != "autograd" else "")
                needed = settings.steps * chain.steps if kind is chain else 0
                yield Workload(label, settings.batch_size, chain.steps, needed, partial(self._chain, what, kind))

    def _has_closed_form(self, space: LatentSpace) -> bool:
        return space != "whitened-biased" and prior_gradient(self.prior, space) is not None

    def _chain(self, what: str, chain: TrainingChain, batch: int) -> dict:
        hierarchy, prior = self.hierarchy.eval().requires_grad_(True), self.prior.requires_grad_(True)
        space, kernel = SPACES[chain.space](hierarchy, prior), build("kernel", chain.kernel)
        start = torch.randn(batch, hierarchy.dimensions, generator=self.rng, device=self.device)
        images = self.pixels(batch) if what == "posterior chain" else None

        def ours() -> torch.Tensor:
            with frozen(hierarchy, prior):
                target = space.target(chain.gradients) if images is None else space.posterior(images, chain.gradients)
                return run_chain(kernel, target, start, chain.steps, self.rng).x

        if not plain.comparable(prior, chain):
            return {"ours": ours}
        if images is None:
            parts = plain.prior_parts(hierarchy, prior, chain.space)
        else:
            parts = plain.posterior_parts(hierarchy, prior, images, chain.space)
        length = chain.kernel.step_size
        return {"ours": ours, "plain": lambda: plain.langevin(parts, start, chain.steps, length, self.rng)}

    def _samples(self, batch: int) -> dict:
        block = self.params.draw_samples.sampler
        if getattr(block, "step_size", "own") == "adapted":  # nothing was trained, and the time does not depend on it
            block = block.model_copy(update={"step_size": "own"})
        sampler = build("sampler", block)
        hierarchy, prior = self.hierarchy.eval().requires_grad_(False), self.prior.requires_grad_(False)

        @torch.no_grad()
        def draw() -> torch.Tensor:
            drawn = sampler.draw(prior, hierarchy.dimensions, batch, self.rng, lambda *_: None)
            parts = drawn.eps.split(hierarchy.max_batch_size())
            return torch.cat([hierarchy.decode(hierarchy.top_down_flat(part)).mean for part in parts])

        return {"ours": draw}


def training_chain(settings: TrainJoint | TrainPrior) -> TrainingChain | None:
    """The chain from its start in every training step: that of joint training or of the estimator ``short-run``; None
    for other estimators."""
    if isinstance(settings, TrainJoint):
        return settings.chain
    return settings.estimator if getattr(settings.estimator, "name", None) == "short-run" else None


def _with_batch(settings: Optimisation, batch: int) -> Optimisation:
    """The settings with another batch size, and without logging."""
    return settings.model_copy(update={"batch_size": batch, "log_interval": 10**9})


@contextmanager
def prepared(params: Base, image_shape: tuple[int, ...], device: torch.device) -> Iterator[Bench]:
    """A bench whose files are removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="jebm-bench-") as folder:
        yield Bench(params, image_shape, device, Path(folder))
