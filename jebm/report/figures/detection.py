"""Outlier detection: scores with intervals, and the contribution of the energy."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS, CYCLE
from jebm.report.frame import values

SCORES = ("elbo", "elbo+f", "reconstruction", "mahalanobis", "isolation-forest")
GAINS = {"auroc_gain": "AUROC", "auprc_gain": "AUPRC"}


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """Outlier detection, one row per outlier set. Left: AUROC of the bound without and with the energy, and of
    detectors without a generative model. Right: the change of the AUROC by the energy, on the same images; it helps
    right of 0. Dots are seeds, bars are 95 % bootstrap intervals over test images, averaged over seeds."""
    gains = frame[frame.metric == "auroc_gain"]
    rows = [(name, which) for name in variants for which in dict.fromkeys(gains[gains.variant == name].set)]
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 1.2 + 0.42 * len(rows)), sharey=True, layout="constrained")
    for place, (variant, name) in enumerate(rows):
        own = frame[frame.variant == variant]
        for i, score in enumerate(SCORES):
            label = score if place == 0 else None
            one = values(own, "auroc", set=name, score=score)
            _bar(axes[0], one, place + 0.15 * (i - 2), CYCLE[i], label)
        for i, (metric, label) in enumerate(GAINS.items()):
            label = label if place == 0 else None
            _bar(axes[1], values(own, metric, set=name), place + 0.3 * (i - 0.5), CYCLE[i], label)
    axes[1].axvline(0, color=COLOURS["data"], linewidth=0.8)
    axes[0].set_yticks(range(len(rows)), [f"{variant}: {name}" for variant, name in rows])
    axes[0].invert_yaxis()
    axes[0].set(xlabel="AUROC", title="scores")
    axes[1].set(xlabel="difference", title="what f adds to the ELBO")
    axes[1].locator_params(axis="x", nbins=5)
    for ax, columns in zip(axes, (3, 2), strict=True):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.55 / figure.get_figheight()), ncols=columns, fontsize=8)
    return figure


def _bar(ax: Axes, own: pd.DataFrame, height: float, colour: str, label: str | None) -> None:
    """The mean over seeds with the means of the interval's ends, and the seeds as dots."""
    ax.plot([own.low.mean(), own.high.mean()], [height, height], color=colour, linewidth=2.2, alpha=0.45)
    ax.scatter(own.value, [height] * len(own), s=7, color=colour, linewidths=0, zorder=3, label=label)
