"""Backbones and priors of a variant: built from their parameters, or loaded with the weights of an earlier stage."""

from collections.abc import Iterator
from pathlib import Path

from jebm.config.components import build
from jebm.data.dataset import Dataset
from jebm.errors import SettingError
from jebm.io.filenames import PRIOR_WEIGHTS, WEIGHTS
from jebm.io.tensors import read_snapshots, read_tensors, read_weights
from jebm.models.backbones.base import Hierarchy
from jebm.models.precision import apply_layout_and_precision
from jebm.models.priors.base import Prior, build_prior
from jebm.pipeline.study import Variant
from jebm.steps.run import StageRun


def build_backbone(run: StageRun, data: Dataset) -> Hierarchy:
    """The backbone of the run's variant, without its weights.

    Raises:
        SettingError: its likelihood has other grey levels than the data.
    """
    block = run.variant.params.backbone
    hierarchy = build("backbone", block, data.image_shape)
    if hierarchy.levels not in (None, data.levels):
        raise SettingError(
            f"{run.plan.name}.backbone.likelihood.levels: is {hierarchy.levels}, but the dataset "
            f"'{run.variant.params.dataset.name}' has {data.levels} levels; set it to {data.levels}"
        )
    return to_device(run, hierarchy)


def to_device(run: StageRun, hierarchy: Hierarchy) -> Hierarchy:
    """The hierarchy on the run's device, in the memory layout and precision of ``compute``."""
    return apply_layout_and_precision(hierarchy.to(run.device), run.variant.params.compute)


def load_backbone(run: StageRun, image_shape: tuple[int, ...]) -> Hierarchy:
    """The trained backbone of the run's variant, frozen."""
    hierarchy = build("backbone", run.variant.params.backbone, image_shape)
    hierarchy.load_state_dict(read_weights(run.variant.backbone.run_folder(run.seed) / WEIGHTS))
    return to_device(run, hierarchy.requires_grad_(False)).eval()


def load_prior(run: StageRun, hierarchy: Hierarchy) -> Prior:
    """The trained prior of the run's variant, frozen."""
    prior = build_prior(run.variant.params.prior, hierarchy)
    if run.variant.learned:
        path = _prior_file(run, run.variant)
        prior.load_state_dict(read_weights(path))
        prior.adapted_step_size = read_tensors(path, lambda name: False)[1].get("step_size")
    return prior.requires_grad_(False).to(run.device).eval()


def _prior_file(run: StageRun, variant: Variant) -> Path:
    return variant.prior.run_folder(run.seed) / (PRIOR_WEIGHTS if variant.joint else WEIGHTS)


def load_snapshots(run: StageRun, image_shape: tuple[int, ...]) -> Iterator[tuple[int, Hierarchy, Prior]]:
    """Yield (step, hierarchy, prior) for each snapshot of the last training of the run's variant, in order.

    A prior that was trained on a frozen backbone has snapshots on the final backbone. If the prior has nothing to
    learn, the snapshots are those of the backbone. Joint training has snapshots of both at the same steps.
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
