"""Backbones and priors of a variant: built from their parameters, or loaded with the weights of an earlier stage."""

from collections.abc import Iterator
from pathlib import Path

from jebm.config.components import build
from jebm.data.dataset import Dataset
from jebm.errors import JebmError
from jebm.io.filenames import PRIOR_WEIGHTS, WEIGHTS
from jebm.io.tensors import read_snapshots, read_tensors, read_weights
from jebm.models.backbones.base import Hierarchy
from jebm.models.precision import apply_layout_and_precision
from jebm.models.priors.base import Prior, build_prior
from jebm.pipeline.study import Variant
from jebm.steps.run import StageRun


def build_backbone(run: StageRun, data: Dataset) -> Hierarchy:
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


def to_device(run: StageRun, hierarchy: Hierarchy) -> Hierarchy:
    """The hierarchy on the run's device, in the layout and precision that ``compute`` asks for."""
    return apply_layout_and_precision(hierarchy.to(run.device), run.variant.params.compute)


def load_backbone(run: StageRun, image_shape: tuple[int, ...]) -> Hierarchy:
    """The frozen backbone that this run's variant stands on."""
    hierarchy = build("backbone", run.variant.params.backbone, image_shape)
    hierarchy.load_state_dict(read_weights(run.variant.backbone.run_folder(run.seed) / WEIGHTS))
    return to_device(run, hierarchy.requires_grad_(False)).eval()


def load_prior(run: StageRun, hierarchy: Hierarchy, variant: Variant | None = None) -> Prior:
    """The prior of the run's variant (or of another one on the same backbone), with what it learned."""
    variant = variant or run.variant
    prior = build_prior(variant.params.prior, hierarchy)
    if variant.learned:
        path = _prior_file(run, variant)
        prior.load_state_dict(read_weights(path))
        prior.adapted_step_size = read_tensors(path, lambda name: False)[1].get("step_size")
    return prior.requires_grad_(False).to(run.device).eval()


def _prior_file(run: StageRun, variant: Variant) -> Path:
    return variant.prior.run_folder(run.seed) / (PRIOR_WEIGHTS if variant.joint else WEIGHTS)


def load_snapshots(run: StageRun, image_shape: tuple[int, ...]) -> Iterator[tuple[int, Hierarchy, Prior]]:
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
