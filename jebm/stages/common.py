"""What the stages share: the paths and streams of a run, and loading what an earlier stage published."""

import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from jebm.assets import AssetFiles, resolved
from jebm.data.dataset import Dataset, load_dataset
from jebm.data.pixels import Pixels
from jebm.digests import digest_of
from jebm.errors import JebmError
from jebm.files import write_csv, write_json
from jebm.models.hierarchy import Hierarchy
from jebm.models.priors import Prior, build_prior
from jebm.plan import HISTORY, PRIOR_WEIGHTS, RECORD, WEIGHTS, Stage, StudyPlan, Variant
from jebm.registry import build
from jebm.store import read_tensors, write_tensors
from jebm.streams import derive_seed, generator


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
        return self.variant.params.compute.device

    def stream(self, purpose: str) -> torch.Generator:
        """A random stream of this job's own."""
        return generator(self.stage.id, self.seed, purpose, device=self.device)

    def derived_seed(self, purpose: str) -> int:
        return derive_seed(self.stage.id, self.seed, purpose)

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
    try:
        torch.zeros(1, device=run.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise JebmError(
            f"params.yaml: {run.plan.name}.compute.device: '{run.device}' can't be used: {reason}"
        ) from None


def publish_training(run: Run, weights: dict[str, torch.Tensor], history: list[dict], facts: dict) -> None:
    """Write weights (with the arguments that rebuild the module), history and record; the weights last."""
    header = {"kind": run.stage.kind, "spec": run.stage.spec, "seed": run.seed, "stage": run.stage.id}
    facts = {"parameters": sum(tensor.numel() for tensor in weights.values()), **facts}
    columns = list(dict.fromkeys(key for row in history for key in row))
    write_csv(run.folder / HISTORY, columns, history)
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    write_json(run.folder / RECORD, {**header, **facts, "versions": versions})
    write_tensors(run.folder / WEIGHTS, weights, header)


def build_features(run: Run, data: Dataset) -> nn.Module:
    """The feature space of the distances, without its weights; offers ``features(x) → (batch, dimensions)``."""
    block = resolved(run.variant.params.features, AssetFiles(run.plan.assets))
    return build("features", block, data.image_shape, data.manifest["classes"])


def load_features(run: Run, data: Dataset) -> nn.Module:
    """The feature space of the distances."""
    space = build_features(run, data)
    weights, _ = read_tensors(run.variant.features.folder / WEIGHTS)
    space.load_state_dict(weights)
    return space.requires_grad_(False).to(run.device).eval()


def load_backbone(run: Run, image_shape: tuple[int, ...]) -> Hierarchy:
    """The frozen backbone that this run's variant stands on."""
    hierarchy = build("backbone", run.variant.params.backbone, image_shape)
    weights, _ = read_tensors(run.variant.backbone.run_folder(run.seed) / WEIGHTS)
    hierarchy.load_state_dict(weights)
    return hierarchy.requires_grad_(False).to(run.device).eval()


def load_prior(run: Run, hierarchy: Hierarchy, variant: Variant | None = None) -> Prior:
    """The prior of the run's variant (or of another one on the same backbone), with what it learned."""
    variant = variant or run.variant
    prior = build_prior(variant.params.prior, hierarchy)
    if variant.learned:
        name = PRIOR_WEIGHTS if variant.joint else WEIGHTS
        weights, _ = read_tensors(variant.prior.run_folder(run.seed) / name)
        prior.load_state_dict(weights)
    return prior.requires_grad_(False).to(run.device).eval()
