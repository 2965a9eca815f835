"""The contribution of each term of the energy: FD of the density without it, and with it alone."""

import matplotlib.pyplot as plt
import pandas as pd

from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS, over_seeds

BARS = {
    "fd_without": (COLOURS["ebm"], "without this term", -0.2),
    "fd_with_only": (COLOURS["gaussian"], "this term only", 0.2),
}
"""Colour, label and place of the bars of each metric."""


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """FD of the learned density, importance-resampled from one pool, with one term of f removed after training, and
    with that term alone. Bars are means over seeds, dots are seeds; the dashed line is the density with all terms."""
    figure, axes = plt.subplots(
        1, len(variants), figsize=(3.6 * len(variants), 3.2), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, name in zip(axes[0], variants, strict=True):
        rows = frame[(frame.variant == name) & frame.metric.isin(BARS)]
        terms = [term for term in dict.fromkeys(rows.layer) if term != "none"]
        for metric, (colour, label, shift) in BARS.items():
            own = rows[(rows.metric == metric) & (rows.layer != "none")]
            own = own.assign(x=own.layer.map(terms.index) + shift)
            means = over_seeds(own, "x")["mean"]
            if len(own):
                ax.bar(means.index, means, 0.38, color=colour, alpha=0.8, label=label)
                ax.plot(own.x, own.value, ".", color="black", markersize=3)
        whole = rows[rows.layer == "none"].value.mean()
        ax.axhline(whole, color="black", linestyle="--", linewidth=0.8, label="all terms")
        ax.set(title=name, xticks=range(len(terms)), xlabel="term of f, bottom layer first")
        ax.set_xticklabels([term.removeprefix("z") for term in terms])
    axes[0][0].set_ylabel("FD of the density")
    axes[0][0].legend(fontsize=7)
    return figure
