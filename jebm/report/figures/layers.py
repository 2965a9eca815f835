"""The content of each layer: one layer is redrawn while all others are fixed."""

import matplotlib.pyplot as plt
import torch

from jebm.data.dataset import load_dataset
from jebm.io.filenames import ARRAYS
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import image_grid

COLUMNS = 4


def draw(plan: StudyPlan, variants: list[str]):
    """The content of each layer: the first image of each row is a sample; in the others one layer is redrawn from the
    Gaussian prior while the noise of all other layers is fixed. A layer without visible changes encodes nothing."""
    variant = plan.variants[variants[0]]
    levels = load_dataset(variant.dataset.folder).levels
    arrays, _ = read_tensors(variant.layers.run_folder(plan.seeds[0]) / ARRAYS)
    layers = sorted((name for name in arrays if name.startswith("layer")), key=lambda name: int(name[len("layer") :]))
    columns = min(len(layers), COLUMNS)
    shape = (-(-len(layers) // columns), columns)
    figure, axes = plt.subplots(*shape, figsize=(3.4 * shape[1], 2.6 * shape[0]), squeeze=False)
    for ax in axes.flat[len(layers) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, layers, strict=False):
        rows = torch.cat([arrays["original"].unsqueeze(1), arrays[name]], 1)
        which = name.removeprefix("layer")
        image_grid(ax, rows.flatten(0, 1), rows.shape[1], levels, f"sample | layer {which} redrawn")
        ax.axvline(rows.shape[-1] - 0.0, color=plt.rcParams["axes.prop_cycle"].by_key()["color"][1], linewidth=2)
    return figure
