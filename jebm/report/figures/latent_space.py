"""The latent space of the top layer, by class."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Circle
from sklearn.decomposition import PCA

from jebm.data.dataset import load_dataset
from jebm.io.filenames import ARRAYS
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan
from jebm.report.frame import values

SHOWN = 3000
"""Points in a panel, at most."""


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """Posterior means of the top layer for held-out images at the first seed, coloured by class, on their first two
    principal components; one panel per backbone. The classes were not known in training. The circles have radii 1 and
    2, where N(0, I) has one and two standard deviations. In brackets the test accuracy of a linear classifier on all
    dimensions of the layer."""
    figure, axes = plt.subplots(
        1,
        len(variants),
        figsize=(3.9 * len(variants), 3.6),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    for ax, name in zip(axes[0], variants, strict=True):
        variant, seed = plan.variants[name], plan.seeds[0]
        (block, stage), *_ = variant.evaluations_named("layers")
        arrays, _ = read_tensors(stage.run_folder(seed) / ARRAYS, {"kl", "means/top"}.__contains__)
        labels = load_dataset(variant.dataset.folder).labels(block.reference).numpy()
        means, layers = arrays["means/top"].numpy(), arrays["kl"].shape[1]
        pca = PCA(2, random_state=0).fit(means)
        points, classes = pca.transform(means)[:SHOWN], labels[:SHOWN]
        for place, known in enumerate(np.unique(labels)):
            colour = plt.get_cmap("tab10")(place % 10)
            ax.scatter(*points[classes == known].T, s=4, linewidths=0, alpha=0.6, color=colour, label=str(known))
        for radius in (1, 2):
            ax.add_patch(Circle((0, 0), radius, fill=False, linewidth=0.6, linestyle=":"))
        accuracy = values(frame[(frame.variant == name) & (frame.seed == seed)], "probe", layer=f"z{layers}").value
        found = f" ({100 * accuracy.iloc[0]:.0f} %)" if len(accuracy) else ""
        first, second = (f"{100 * share:.0f} %" for share in pca.explained_variance_ratio_)
        ax.set(title=f"{name}: z{layers}{found}", xlabel=f"component 1: {first}", ylabel=f"component 2: {second}")
        ax.set_aspect("equal")
    handles, names = axes[0][-1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", markerscale=3, title="class")
    return figure
