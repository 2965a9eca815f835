"""Walks along single latent dimensions of each layer, through one sample."""

import matplotlib.pyplot as plt

from jebm.data.dataset import load_dataset
from jebm.io.filenames import ARRAYS
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import image_grid


def draw(plan: StudyPlan, variants: list[str]):
    """Walks through the first sample at the first seed, one panel per layer: in each row one coordinate of ε goes from
    −2.5 to 2.5 standard deviations of the Gaussian prior, while all others keep the values of the sample. The rows are
    the coordinates of the layer that change the image most, of its first 64. Lower layers follow through the
    hierarchy."""
    variant = plan.variants[variants[0]]
    levels = load_dataset(variant.dataset.folder).levels
    arrays, _ = read_tensors(variant.layers.run_folder(plan.seeds[0]) / ARRAYS, lambda name: name.startswith("walk"))
    layers = sorted(arrays, key=lambda name: int(name.removeprefix("walk")))
    columns = min(len(layers), 2)
    shape = (-(-len(layers) // columns), columns)
    size = (4.6 * columns, 2.1 * shape[0])
    figure, axes = plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat[len(layers) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, layers, strict=False):
        walks, layer = arrays[name], int(name.removeprefix("walk"))
        title = f"{variant.name}: layer {layer}{' (bottom)' if layer == 1 else ''}"
        image_grid(ax, walks.flatten(0, 1), walks.shape[1], levels, title)
        width = walks.shape[-1] + 1
        ax.set_xticks([width / 2 - 1, (walks.shape[1] // 2 + 0.5) * width - 1, (walks.shape[1] - 0.5) * width - 1])
        ax.set_xticklabels(["−2.5", "0", "2.5"])
        ax.tick_params(length=0)
    for ax in axes[-1]:
        ax.set_xlabel("ε of one dimension per row")
    return figure
