"""A trained model in one line, for scripts and notebooks.

A folder of a run is enough: its provenance record holds the parameters, and names the other files that belong to the
model. Weights are tensors with a header; nothing is unpickled.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, TypeAdapter

from jebm.config.components import build, schema
from jebm.config.messages import unknown
from jebm.config.read import read_params
from jebm.data.dataset import to_pixels
from jebm.errors import JebmError
from jebm.io.filenames import MANIFEST, PRIOR_WEIGHTS, PROVENANCE, WEIGHTS
from jebm.io.files import read_json
from jebm.io.tensors import read_tensors, read_weights
from jebm.metrics.likelihood import importance_weighted, log_weights
from jebm.models.backbones.base import Hierarchy, Posterior
from jebm.models.nets import frozen
from jebm.models.priors.base import Prior, build_prior
from jebm.pipeline.results import read_record
from jebm.pipeline.study import Variant, make_plan
from jebm.runtime.random import make_rng
from jebm.sampling.closed_form.gradients import prior_target
from jebm.sampling.partition import LogPartition, estimate_log_partition
from jebm.sampling.run import ChainResult, run_chain
from jebm.sampling.samplers.ancestral import Ancestral
from jebm.sampling.samplers.base import Sampler
from jebm.sampling.samplers.denoising import Denoising
from jebm.sampling.samplers.levels import Levels

KERNEL = {"name": "pcnl", "step_size": 0.35, "adjusted": True}


@dataclass(frozen=True)
class Trained:
    """A trained hierarchy p(x, z) with its inference network q(z | x), and a prior over all its latents.

    Latents are *flat whitened* ones, ε of shape (count, dimensions): all layers, bottom first, each standard normal
    under the Gaussian prior. ``hierarchy.split(eps)`` gives the layers, and ``hierarchy.top_down_flat(eps).z`` the
    latents z. Images are floats in [−1, 1], (count, *image_shape). Every method takes a ``seed`` and uses no global
    random state. Nothing here needs gradients, and the weights are frozen.
    """

    hierarchy: Hierarchy
    """The backbone: p(z) of the Gaussian hierarchy, p(x | z), q(z | x)."""
    prior: Prior
    """p(ε) = exp(tilt(ε)) N(ε; 0, I) / Z; the tilt of the EBM prior is f, that of the Gaussian prior is 0."""
    levels: int
    """Grey levels of the data."""
    kernel: dict = field(default_factory=lambda: dict(KERNEL))
    """The transition of :meth:`chain` unless another is given: that of the training chain, if there was one."""
    steps: int = 20
    """The steps of :meth:`chain` unless others are given."""
    sampler: Sampler | None = None
    """The sampler of the variant; None if the model was loaded from a folder."""

    @property
    def dimensions(self) -> int:
        """Number of latent dimensions of all layers."""
        return self.hierarchy.dimensions

    @torch.no_grad()
    def sample(self, count: int, seed: int = 0) -> torch.Tensor:
        """Draws from the prior, ε of shape (count, dimensions).

        By the variant's sampler. Without one: exact draws of a prior that can be drawn from; 50 steps of denoising of a
        diffusion prior; for a recovery prior, on each level the chain of training; otherwise end points of
        :meth:`chain`, which are no exact draws.
        """
        if (sampler := self.sampler or self._natural_sampler()) is None:
            return self.chain(count, seed=seed).x
        return sampler.draw(self.prior, self.dimensions, count, self._rng("sample", seed), lambda *_: None).eps

    def _natural_sampler(self) -> Sampler | None:
        """The sampler that the kind of prior asks for, if it is not a chain on the density."""
        if self.prior.exact:
            return Ancestral()
        if getattr(self.prior, "denoising", False):
            return Denoising()
        if getattr(self.prior, "by_levels", False):
            return Levels(kernel=TypeAdapter(schema("kernel")).validate_python(self.kernel), steps=self.steps)
        return None

    @torch.no_grad()
    def decode(self, eps: torch.Tensor) -> torch.Tensor:
        """The means of p(x | z) for ε (count, dimensions): images (count, *image_shape) in [−1, 1]."""
        parts = eps.split(self.hierarchy.max_batch_size())
        return torch.cat([self.hierarchy.decode(self.hierarchy.top_down_flat(part)).mean for part in parts])

    @torch.no_grad()
    def infer(self, images: torch.Tensor, seed: int = 0) -> Posterior:
        """A draw from q(ε | x) for each image: ``eps``, one tensor per layer, bottom first; the top-down pass ``top``;
        ``log_q`` and ``kl`` per layer, (count, layers), nats.

        Args:
            images: (count, *image_shape), floats in [−1, 1], or uint8 with the grey levels of the data.
        """
        return self.hierarchy.infer(self._pixels(images), self._rng("infer", seed))

    @torch.no_grad()
    def log_partition(self, draws: int = 100_000, seed: int = 0) -> LogPartition:
        """log Z of the prior by importance sampling from its defensive proposal: ``value`` in nats, its
        ``standard_error``, and the ``effective_fraction`` of the draws. With few effective draws (fraction × draws
        below some hundred) neither the value nor its error can be trusted."""
        return estimate_log_partition(self.prior, self.dimensions, draws, self._rng("log Z", seed))

    @torch.no_grad()
    def log_density(self, eps: torch.Tensor, log_z: float | None = None) -> torch.Tensor:
        """log p(ε) of the prior, (count,), nats.

        Args:
            log_z: log Z; by default that of :meth:`log_partition`, whose error is added to every value.
        """
        return self.prior.log_prob(eps) - (self.log_partition().value if log_z is None else log_z)

    @torch.no_grad()
    def log_likelihood(
        self, images: torch.Tensor, draws: int = 100, log_z: float | None = None, seed: int = 0
    ) -> torch.Tensor:
        """The importance-weighted bound on log p(x) of each image, (count,), nats (Burda et al., 2016). It is a lower
        bound in expectation if log Z is exact; see :meth:`log_partition`."""
        log_z = self.log_partition().value if log_z is None else log_z
        weights = log_weights(self.hierarchy, self.prior, self._pixels(images), draws, self._rng("bound", seed))
        return importance_weighted(weights.gaussian + weights.tilt - log_z)

    def chain(
        self,
        count: int = 100,
        steps: int | None = None,
        kernel: dict | None = None,
        start: torch.Tensor | None = None,
        seed: int = 0,
        on_step=None,
    ) -> ChainResult:
        """Run chains on the prior: their end points ``x`` (count, dimensions), the ``acceptance``, and which are
        ``finite``.

        Args:
            kernel: such as ``{"name": "pcnl", "step_size": 0.35, "adjusted": True}``; the names and parameters are
                those of the parameter files.
            start: ε (count, dimensions); draws from N(0, I) when left out.
            on_step: called with the number of each step, from 1, and the state after it.
        """
        rng = self._rng("chain", seed)
        block = TypeAdapter(schema("kernel")).validate_python(kernel or self.kernel)
        if start is None:
            start = torch.randn(count, self.dimensions, generator=rng, device=rng.device)
        with frozen(self.prior):
            target = prior_target(self.prior, "autograd")
            return run_chain(
                build("kernel", block), target, start, self.steps if steps is None else steps, rng, on_step
            )

    def _pixels(self, images: torch.Tensor) -> torch.Tensor:
        return to_pixels(images, self.levels) if images.dtype == torch.uint8 else images

    def _rng(self, purpose: str, seed: int) -> torch.Generator:
        device = next(self.hierarchy.parameters()).device
        return make_rng("jebm.load", purpose, seed, device=str(device))


def load(where: str | Path, seed: int = 1, device: str = "cpu") -> Trained:
    """A trained model: the hierarchy, its inference network, and the prior.

    Args:
        where: a study and a variant, such as ``"digits/likelihood"``, if the working folder is the project's; or the
            folder of a finished run below ``runs/train_backbone``, ``runs/import_backbone``, ``runs/train_prior`` or
            ``runs/train_joint``, which needs no parameter file. A folder of a backbone has the Gaussian prior.
        seed: the seed of the run; not used with a folder.
        device: ``cpu``, ``cuda`` …

    Raises:
        JebmError: there is no such variant or folder, or it has not been trained yet.
    """
    if Path(where).is_dir():
        return _from_folder(Path(where), device)
    study, _, name = str(where).partition("/")
    plans = make_plan(read_params())
    if study not in plans:
        raise unknown(f"there is no folder '{where}' and no study '{study}'", study, plans)
    if name not in plans[study].variants:
        raise unknown(f"study '{study}' has no variant '{name}'", name, plans[study].variants)
    variant = plans[study].variants[name]
    if seed not in plans[study].seeds:
        raise JebmError(f"study '{study}' has the seeds {plans[study].seeds}, not {seed}")
    trained = _from_folder(_folder(variant, seed), device)
    prior = trained.prior
    if not variant.learned:
        prior = build_prior(variant.params.prior, trained.hierarchy).to(device)
    sampler = build("sampler", variant.params.draw_samples.sampler)
    return Trained(trained.hierarchy, prior, trained.levels, trained.kernel, trained.steps, sampler)


def _folder(variant: Variant, seed: int) -> Path:
    stage = variant.prior if variant.learned else variant.backbone
    folder = stage.run_folder(seed)
    if not (folder / PROVENANCE).exists():
        raise JebmError(f"{folder}: not trained yet; `snakemake --cores all {folder / WEIGHTS}` makes it")
    return folder


def _from_folder(folder: Path, device: str) -> Trained:
    record = read_record(folder / PROVENANCE)
    if record is None or "backbone" not in record["parameters"]:
        raise JebmError(f"{folder}: is no folder of a finished training with its {PROVENANCE}")
    parameters = record["parameters"]
    manifest = read_json(_input(folder, record, MANIFEST))
    hierarchy = build("backbone", _block("backbone", parameters), tuple(manifest["image_shape"]))
    own = "prior" not in parameters  # a backbone, otherwise the prior was trained on one, or both together
    joint = (folder / PRIOR_WEIGHTS).exists()
    weights = folder / WEIGHTS if own or joint else _input(folder, record, WEIGHTS)
    hierarchy.load_state_dict(read_weights(weights))
    hierarchy = hierarchy.requires_grad_(False).to(device).eval()
    gaussian = TypeAdapter(schema("prior")).validate_python({"name": "gaussian"})
    prior = build_prior(gaussian if own else _block("prior", parameters), hierarchy)
    if not own:
        path = folder / (PRIOR_WEIGHTS if joint else WEIGHTS)
        prior.load_state_dict(read_weights(path))
        prior.adapted_step_size = read_tensors(path, lambda name: False)[1].get("step_size")
    prior = prior.requires_grad_(False).to(device).eval()
    estimator = (parameters.get("train_prior") or {}).get("estimator") or {}
    chain = (parameters.get("train_joint") or {}).get("chain") or {}
    chain = estimator if estimator.get("name") == "short-run" else chain
    return Trained(hierarchy, prior, manifest["levels"], chain.get("kernel") or dict(KERNEL), chain.get("steps") or 20)


def _block(kind: str, parameters: dict[str, Any]) -> BaseModel:
    """The block of a component in a provenance record."""
    return TypeAdapter(schema(kind)).validate_python(parameters[kind])


def _input(folder: Path, record: dict, name: str) -> Path:
    """The input file of this name from which a result was made. Records have paths relative to the project's folder."""
    for path in record["inputs"]:
        for root in folder.resolve().parents if Path(path).name == name else ():
            if (root / path).exists():
                return root / path
    raise JebmError(f"{folder}: was made from a file {name}, which is missing; `dvc pull` or `snakemake` brings it")
