"""ROC curves of the outlier scores, one panel per set."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_curve

from jebm.io.filenames import ARRAYS
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import CYCLE


def draw(plan: StudyPlan, variants: list[str]):
    """ROC curves of the outlier scores, one panel per set: the mean over seeds at equal false-positive rates, with the
    range over seeds as a band."""
    variant = plan.variants[variants[0]]
    reference = variant.params.evaluate_density.reference
    runs = [read_tensors(variant.density_metrics.run_folder(seed) / ARRAYS)[0] for seed in plan.seeds]
    names = sorted({key.split("/")[1] for key in runs[0] if key.startswith("score/")} - {reference})
    scores = sorted(key.split("/")[2] for key in runs[0] if key.startswith(f"score/{reference}/"))
    figure, axes = plt.subplots(
        1, len(names), figsize=(2.2 * len(names), 2.6), sharey=True, squeeze=False, layout="constrained"
    )
    grid = np.linspace(0, 1, 201)
    for ax, name in zip(axes[0], names, strict=True):
        for colour, score in zip(CYCLE, scores, strict=False):
            curves = np.stack([_curve(run, reference, name, score, grid) for run in runs])
            ax.plot(grid, curves.mean(0), color=colour, label=score, linewidth=1.2)
            ax.fill_between(grid, curves.min(0), curves.max(0), color=colour, alpha=0.15, linewidth=0)
        ax.plot([0, 1], [0, 1], color="black", linewidth=0.4, linestyle=":")
        ax.set(title=name, xlabel="false positives", xticks=[0, 0.5, 1], xlim=(-0.03, 1), ylim=(0, 1.03))
        ax.set_aspect("equal")
    axes[0][0].set_ylabel("outliers found")
    axes[0][-1].legend(loc="lower right", fontsize=7)
    return figure


def _curve(run, reference, name, score, grid):
    normal, outliers = (run[f"score/{key}/{score}"].numpy() for key in (reference, name))
    labels = np.concatenate([np.zeros(len(normal)), np.ones(len(outliers))])
    false_positive, true_positive, _ = roc_curve(labels, np.concatenate([normal, outliers]))
    return np.interp(grid, false_positive, true_positive)
