"""Pairs of columns of tabular data: held-out rows beside samples of each prior."""

import matplotlib.pyplot as plt
import numpy as np

from jebm.data.dataset import Dataset, load_dataset
from jebm.io.filenames import SAMPLES
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS


def draw(plan: StudyPlan, variants: list[str]):
    """Pairs of columns, as quantiles of the training split: held-out rows on the left, equally many samples of each
    prior on the right. The pairs are those with the largest, the median and the smallest correlation in the held-out
    rows."""
    seed, variant = plan.seeds[0], plan.variants[variants[0]]
    data, split = load_dataset(variant.dataset.folder), variant.params.evaluate_samples.reference
    real = _flat(data.images(split), data)
    panels = {f"real: {split} rows": real}
    for name in variants:
        tensors, _ = read_tensors(plan.variants[name].samples.run_folder(seed) / SAMPLES, {"images"}.__contains__)
        panels[f"{name}, seed {seed}"] = _flat(tensors["images"][: len(real)], data)
    pairs, names = _pairs(real), data.manifest.get("columns")
    size = (2.4 * len(panels), 2.4 * len(pairs))
    figure, axes = plt.subplots(len(pairs), len(panels), figsize=size, sharex=True, sharey=True, layout="constrained")
    for row, (first, second) in zip(axes, pairs, strict=True):
        for ax, (title, rows) in zip(row, panels.items(), strict=True):
            ax.scatter(rows[:, first], rows[:, second], s=4, linewidths=0, alpha=0.6, color=_colour(plan, title))
            ax.set(xlabel=names[first] if names else f"column {first}", xticks=[0, 1], yticks=[0, 1])
        row[0].set_ylabel(names[second] if names else f"column {second}")
    for ax, title in zip(axes[0], panels, strict=True):
        ax.set_title(title, fontsize=9)
    return figure


def _flat(images, data: Dataset) -> np.ndarray:
    """Levels as numbers from 0 to 1, (count, columns)."""
    return images.flatten(1).numpy() / (data.levels - 1)


def _pairs(rows: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of columns with the largest, the median and the smallest absolute correlation."""
    first, second = np.triu_indices(rows.shape[1], 1)
    order = np.argsort(-np.abs(np.corrcoef(rows, rowvar=False)[first, second]), kind="stable")
    return [(int(first[i]), int(second[i])) for i in (order[0], order[len(order) // 2], order[-1])]


def _colour(plan: StudyPlan, title: str) -> str:
    variant = plan.variants.get(title.split(",")[0])
    return COLOURS.get(variant.params.prior.name, COLOURS["ebm"]) if variant else COLOURS["data"]
