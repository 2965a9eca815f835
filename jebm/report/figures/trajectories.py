"""Langevin trajectories: the images of single chains from N(0, I), step by step."""

import matplotlib.pyplot as plt
import numpy as np

from jebm.data.dataset import load_dataset
from jebm.io.filenames import ARRAYS
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import image_grid


def draw(plan: StudyPlan, variants: list[str]):
    """Chains on each prior at the first seed, decoded: a row is one chain, a column the number of its steps. The first
    column is a draw of the Gaussian prior, from which every chain starts. Short-run training fits the states after its
    own number of steps alone, not those of later ones."""
    figure, axes = plt.subplots(
        1, len(variants), figsize=(5.2 * len(variants), 4.6), squeeze=False, layout="constrained"
    )
    for ax, name in zip(axes[0], variants, strict=True):
        variant = plan.variants[name]
        levels = load_dataset(variant.dataset.folder).levels
        (_, stage), *_ = variant.evaluations_named("trajectories")
        arrays, _ = read_tensors(stage.run_folder(plan.seeds[0]) / ARRAYS, {"images", "steps"}.__contains__)
        images = arrays["images"].transpose(0, 1)  # chains, steps
        image_grid(ax, images.flatten(0, 1), images.shape[1], levels, f"{name}, seed {plan.seeds[0]}")
        width = images.shape[-1] + 1
        places = np.arange(images.shape[1]) * width + width / 2 - 1
        ax.set_xticks(places, map(str, arrays["steps"].tolist()))
        ax.tick_params(length=0)
        ax.set_xlabel("steps of the chain")
    axes[0][0].set_ylabel("chains")
    return figure
