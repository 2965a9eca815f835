"""Where the energy helps to detect outliers, and where not: scores with intervals, and what f adds to them."""

import matplotlib.pyplot as plt
import pandas as pd

from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS, CYCLE
from jebm.report.tables import load_metrics

SCORES = ("elbo", "elbo+f", "reconstruction", "mahalanobis", "isolation-forest")
GAINS = {"auroc_gain": "AUROC", "auprc_gain": "AUPRC"}


def draw(plan: StudyPlan, variants: list[str]):
    """A row an outlier set of a variant. Bars are 95 % intervals over images, averaged over seeds; dots are seeds."""
    frame = load_metrics(plan)
    frame = frame[frame.variant.isin(variants)]
    rows = [(v, key.split(":")[1]) for v in variants for key in _gain_keys(frame, v)]
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 1.2 + 0.42 * len(rows)), sharey=True, layout="constrained")
    for place, (variant, name) in enumerate(rows):
        own = frame[frame.variant == variant]
        for i, score in enumerate(SCORES):
            label = score if place == 0 else None
            _bar(axes[0], own, "auroc", f":{name}:{score}", place + 0.15 * (i - 2), CYCLE[i], label)
        for i, (metric, label) in enumerate(GAINS.items()):
            label = label if place == 0 else None
            _bar(axes[1], own, metric, f":{name}", place + 0.3 * (i - 0.5), CYCLE[i], label)
    axes[1].axvline(0, color=COLOURS["data"], linewidth=0.8)
    axes[0].set_yticks(range(len(rows)), [f"{variant}: {name}" for variant, name in rows])
    axes[0].invert_yaxis()
    axes[0].set(xlabel="AUROC", title="scores")
    axes[1].set(xlabel="difference", title="what f adds to the ELBO")
    axes[1].locator_params(axis="x", nbins=5)
    for ax, columns in zip(axes, (3, 2), strict=True):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.55 / figure.get_figheight()), ncols=columns, fontsize=8)
    return figure


def _gain_keys(frame: pd.DataFrame, variant: str) -> list[str]:
    names = frame[frame.variant == variant].metric
    return list(dict.fromkeys(name for name in names if name.startswith("auroc_gain:")))


def _bar(ax, own: pd.DataFrame, metric: str, key: str, height: float, colour: str, label: str | None) -> None:
    """The mean over seeds with the means of the interval's ends, and the seeds as dots."""
    values, low, high = (own[own.metric == f"{metric}{end}{key}"].value for end in ("", "_low", "_high"))
    ax.plot([low.mean(), high.mean()], [height, height], color=colour, linewidth=2.2, alpha=0.45)
    ax.scatter(values, [height] * len(values), s=7, color=colour, linewidths=0, zorder=3, label=label)
