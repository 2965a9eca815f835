"""The feature space in which samples are compared with real images: built from its parameters, or loaded."""

from jebm.config.assets import with_asset_paths
from jebm.config.components import build
from jebm.data.dataset import Dataset
from jebm.features.base import FeatureSpace
from jebm.io.filenames import WEIGHTS
from jebm.io.tensors import read_weights
from jebm.pipeline.assets import VerifiedAssets
from jebm.steps.run import StageRun


def build_features(run: StageRun, data: Dataset) -> FeatureSpace:
    """The feature space without the weights that are trained for it."""
    block = with_asset_paths(run.variant.params.features, VerifiedAssets(run.plan.assets))
    return build("features", block, data.image_shape, data.manifest["classes"])


def load_features(run: StageRun, data: Dataset) -> FeatureSpace:
    """The feature space with its weights, frozen, on the run's device."""
    space = build_features(run, data)
    space.load_state_dict(read_weights(run.variant.features.folder / WEIGHTS))
    return space.requires_grad_(False).to(run.device).eval()
