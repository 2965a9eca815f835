"""FD against the width and the depth of the energies, including none."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from jebm.metrics.catalogue import FLOOR, METRICS, frechet_metric
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS
from jebm.report.tables import load_metrics

SAMPLERS = {"chain": ("ebm", "end points of chains"), "resampling": ("density", "the density itself")}
"""Colour and label of the curve of each sampler."""
SIZES = {"hidden": "hidden units", "depth": "hidden layers"}


def draw(plan: StudyPlan, variants: list[str]):
    """A panel the width and a panel the depth, the other as in the study's base. Thin lines are seeds."""
    frame = load_metrics(plan)
    metric = frechet_metric(frame.metric)
    frame = frame[frame.metric == metric]
    floor = frame[frame.variant == FLOOR].value
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.0), sharey=True, layout="constrained")
    for ax, size, fixed in zip(axes, SIZES, reversed(SIZES), strict=True):
        ax.set(xlabel=SIZES[size], title=f"{SIZES[fixed]}: {getattr(plan.study.base.prior.energy, fixed)}")
        _panel(ax, frame, _points(plan, variants, size, fixed))
        if len(floor):
            ax.axhline(floor.iloc[0], color=COLOURS["data"], linestyle=":", label="real images (floor)")
    axes[0].set_ylabel(METRICS[metric].label)
    axes[0].set_ylim(bottom=0)
    axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _points(plan: StudyPlan, variants: list[str], size: str, fixed: str) -> list[tuple[str, int, str]]:
    """(sampler, size, variant) of all that is as large as the base in ``fixed``; without an energy the size is −1.

    A prior without one belongs to the curves of all samplers, since chains and resampling start from it.
    """
    points = []
    for name in variants:
        params = plan.variants[name].params
        energy = getattr(params.prior, "energy", None)
        if energy is None:
            points += [(sampler, -1, name) for sampler in SAMPLERS]
        elif getattr(energy, fixed) == getattr(plan.study.base.prior.energy, fixed):
            points.append((params.draw_samples.sampler.name, getattr(energy, size), name))
    return sorted(points)


def _panel(ax: Axes, frame: pd.DataFrame, points: list[tuple[str, int, str]]) -> None:
    sizes = sorted({size for _, size, _ in points})
    for sampler, (colour, label) in SAMPLERS.items():
        chosen = [(sizes.index(size), name) for other, size, name in points if other == sampler]
        if not chosen:
            continue
        x, names = zip(*chosen, strict=True)
        values = np.array([frame[frame.variant == name].sort_values("seed").value for name in names])
        for row in values.T:
            ax.plot(x, row, color=COLOURS[colour], alpha=0.3, linewidth=0.8)
        sd = values.std(1, ddof=1) if values.shape[1] > 1 else np.zeros(len(x))
        ax.errorbar(x, values.mean(1), sd, color=COLOURS[colour], marker="o", capsize=3, label=label)
    ax.set_xticks(range(len(sizes)), ["none" if size < 0 else str(size) for size in sizes])
