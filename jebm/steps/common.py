"""What the stages share: the paths and streams of a run, and loading what an earlier stage published."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from jebm.config.assets import with_asset_paths
from jebm.config.components import build
from jebm.config.training import Recalibration
from jebm.data.batches import Pixels
from jebm.data.dataset import Dataset, load_dataset
from jebm.errors import DivergedError, JebmError
from jebm.features.base import FeatureSpace
from jebm.io.digests import digest_of
from jebm.io.filenames import PRIOR_WEIGHTS, RECORD, WEIGHTS
from jebm.io.files import write_json
from jebm.io.tensors import Weights, read_snapshots, read_tensors, read_weights, with_snapshots, write_tensors
from jebm.models.backbones.base import Hierarchy
from jebm.models.batch_norm import recalibrate
from jebm.models.precision import apply_layout_and_precision
from jebm.models.priors.base import Prior, build_prior
from jebm.pipeline.assets import VerifiedAssets
from jebm.pipeline.stages import Stage
from jebm.pipeline.study import StudyPlan, Variant
from jebm.runtime.distributed import local_device
from jebm.runtime.progress import log
from jebm.runtime.random import derive_seed, make_rng


@dataclass(frozen=True)
class Run:
    """One job: a stage of a variant, at a seed."""

    plan: StudyPlan
    variant: Variant
    stage: Stage
    seed: int | None
    checkpoint_seconds: float = 60.0
    code: str = ""
    """Digest of the code that this job runs."""
    data_on_device: bool | None = None
    """Whether training images are kept on the device; None: if they fit."""

    @property
    def folder(self) -> Path:
        return self.stage.run_folder(self.seed)

    @property
    def title(self) -> str:
        seed = "" if self.seed is None else f" seed {self.seed}"
        return f"{self.plan.name} {self.stage.kind} {self.stage.id}{seed}"

    @property
    def device(self) -> str:
        return local_device(self.variant.params.compute.device)

    def rng(self, purpose: str, of: Stage | None = None) -> torch.Generator:
        """A random stream of this job's own, or one that all jobs on the stage ``of`` have in common at this seed."""
        return make_rng((of or self.stage).id, self.seed, purpose, device=self.device)

    def derived_seed(self, purpose: str, of: Stage | None = None) -> int:
        """See :meth:`rng`."""
        return derive_seed((of or self.stage).id, self.seed, purpose)

    def dataset(self) -> Dataset:
        return load_dataset(self.variant.dataset.folder)

    def pixels(self, data: Dataset, split: str, flips: torch.Generator | None = None) -> Pixels:
        """A split as floats on the device, a batch at a time."""
        return Pixels(data.images(split), data.levels, self.device, flips, self.data_on_device)

    def identity(self, *inputs: Path) -> dict:
        """What must agree before an unfinished training state may be resumed."""
        return {
            "parameters": self.stage.id,
            "seed": self.seed,
            "data": [digest_of(path) for path in inputs],
            "code": self.code,
            "torch": str(torch.__version__),  # a plain string: the state is read with code execution off
        }


def prepare_compute(run: Run) -> None:
    """Fix the number of threads, on which rounding depends, and see that the device exists."""
    torch.set_num_threads(run.variant.params.compute.threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = run.variant.params.compute.tf32
    try:
        torch.zeros(1, device=run.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise JebmError(
            f"params.yaml: {run.plan.name}.compute.device: '{run.device}' can't be used: {reason}"
        ) from None


def publish_weights(run: Run, weights: Weights, facts: dict, snapshots: dict[int, Weights] | None = None) -> None:
    """Write weights (with the arguments that rebuild the module) and record; the weights last."""
    # With the weights, since samples may depend on it; records hold times, and so are nobody's input.
    header = weights_header(run) | {key: facts[key] for key in ("step_size",) if key in facts}
    facts = {"parameters": sum(tensor.numel() for tensor in weights.values()), **facts}
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    write_json(run.folder / RECORD, {**header, **facts, "versions": versions})
    write_tensors(run.folder / WEIGHTS, with_snapshots(weights, snapshots or {}), header)


def weights_header(run: Run) -> dict:
    """What a file of weights says of itself: the arguments that rebuild the module, and the seed."""
    return {"kind": run.stage.kind, "spec": run.stage.spec, "seed": run.seed, "stage": run.stage.id}


def build_features(run: Run, data: Dataset) -> FeatureSpace:
    """The feature space of the distances, without the weights that were trained for it."""
    block = with_asset_paths(run.variant.params.features, VerifiedAssets(run.plan.assets))
    return build("features", block, data.image_shape, data.manifest["classes"])


def load_features(run: Run, data: Dataset) -> FeatureSpace:
    """The feature space of the distances."""
    space = build_features(run, data)
    space.load_state_dict(read_weights(run.variant.features.folder / WEIGHTS))
    return space.requires_grad_(False).to(run.device).eval()


def build_backbone(run: Run, data: Dataset) -> Hierarchy:
    """The backbone of this run's variant without its weights.

    Raises:
        JebmError: its likelihood puts its mass on other levels than those of the data.
    """
    block = run.variant.params.backbone
    hierarchy = build("backbone", block, data.image_shape)
    if hierarchy.levels not in (None, data.levels):
        key = "levels" if hasattr(block, "levels") else "likelihood.levels"
        raise JebmError(
            f"params.yaml: {run.plan.name}.backbone.{key}: is {hierarchy.levels}, but the dataset "
            f"'{run.variant.params.dataset.name}' has {data.levels} levels; set it to {data.levels}"
        )
    return to_device(run, hierarchy)


def to_device(run: Run, hierarchy: Hierarchy) -> Hierarchy:
    """The hierarchy on the run's device, in the layout and precision that ``compute`` asks for."""
    return apply_layout_and_precision(hierarchy.to(run.device), run.variant.params.compute)


def load_backbone(run: Run, image_shape: tuple[int, ...]) -> Hierarchy:
    """The frozen backbone that this run's variant stands on."""
    hierarchy = build("backbone", run.variant.params.backbone, image_shape)
    hierarchy.load_state_dict(read_weights(run.variant.backbone.run_folder(run.seed) / WEIGHTS))
    return to_device(run, hierarchy.requires_grad_(False)).eval()


def load_prior(run: Run, hierarchy: Hierarchy, variant: Variant | None = None) -> Prior:
    """The prior of the run's variant (or of another one on the same backbone), with what it learned."""
    variant = variant or run.variant
    prior = build_prior(variant.params.prior, hierarchy)
    if variant.learned:
        path = _prior_file(run, variant)
        prior.load_state_dict(read_weights(path))
        prior.adapted_step_size = read_tensors(path, lambda name: False)[1].get("step_size")
    return prior.requires_grad_(False).to(run.device).eval()


def recalibrate_as(settings: Recalibration | None, hierarchy: Hierarchy, rng: torch.Generator) -> dict:
    """Draw a backbone's batch-norm statistics anew if the settings say so; what the record has to say of it.

    Raises:
        DivergedError: the statistics are not finite any more.
    """
    if settings is None:
        return {}
    recalibrate(hierarchy, settings.passes, settings.batch_size, settings.temperature, rng)
    if not all(torch.isfinite(buffer).all() for buffer in hierarchy.buffers()):
        raise DivergedError(
            f"batch-norm statistics are not finite after recalibration with {settings.passes} passes at temperature "
            f"{settings.temperature}; set recalibrate to null, or another temperature"
        )
    log(f"batch norm recalibrated: {settings.passes} passes of {settings.batch_size} at T = {settings.temperature}")
    return {"recalibrated": settings.model_dump(mode="json")}


def _prior_file(run: Run, variant: Variant) -> Path:
    return variant.prior.run_folder(run.seed) / (PRIOR_WEIGHTS if variant.joint else WEIGHTS)


def load_snapshots(run: Run, image_shape: tuple[int, ...]) -> Iterator[tuple[int, Hierarchy, Prior]]:
    """(step, hierarchy, prior) of each snapshot of what was trained last for the run's variant, in order.

    Of a prior that was learned on a frozen backbone these are its snapshots on the published backbone; of one that has
    nothing to learn, those of the backbone; of joint training, both at the same steps.
    """
    variant = run.variant
    priors = read_snapshots(_prior_file(run, variant)) if variant.learned else {}
    moving = variant.joint or not variant.learned
    backbones = read_snapshots(variant.backbone.run_folder(run.seed) / WEIGHTS) if moving else {}
    for step in backbones or priors:
        hierarchy = load_backbone(run, image_shape)
        prior = load_prior(run, hierarchy)
        for module, snapshots in ((hierarchy, backbones), (prior, priors)):
            if snapshots:
                module.load_state_dict(snapshots[step])
        yield step, hierarchy, prior
