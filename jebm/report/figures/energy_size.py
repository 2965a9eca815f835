"""FD against the width and the depth of the energies, including none."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from jebm.metrics.catalogue import METRICS, frechet_metric
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS, floor_line, seed_bars, seed_lines
from jebm.report.frame import values

SAMPLERS = {"mcmc": ("ebm", "end points of chains"), "resampling": ("density", "the density itself")}
"""Colour and label of the curve of each sampler."""
SIZES = {"hidden": "hidden units", "depth": "hidden layers"}


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """Fréchet distance to held-out images in a classifier's features against the width of the energies (left) and their
    depth (right); the other size is that of the study's base, and "none" is the Gaussian prior. All energies were
    trained with the same settings. Thin lines are seeds, thick lines their mean ± standard deviation, for the final
    states of short chains and for the learned density itself, which is sampled by importance resampling."""
    metric = frechet_metric(frame.metric)
    frame = values(frame, metric)
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.0), sharey=True, layout="constrained")
    for ax, size, fixed in zip(axes, SIZES, reversed(SIZES), strict=True):
        ax.set(xlabel=SIZES[size], title=f"{SIZES[fixed]}: {getattr(plan.study.base.prior.energy, fixed)}")
        _panel(ax, frame, _points(plan, variants, size, fixed))
        floor_line(ax, frame, metric)
    axes[0].set_ylabel(METRICS[metric].label)
    axes[0].set_ylim(bottom=0)
    axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _points(plan: StudyPlan, variants: list[str], size: str, fixed: str) -> list[tuple[str, int, str]]:
    """(sampler, size, variant) of all variants with the base's value of ``fixed``; the size is −1 without an energy.

    A prior without an energy belongs to the curves of all samplers, since chains and resampling start from it.
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
        at = {name: sizes.index(size) for other, size, name in points if other == sampler}
        own = frame[frame.variant.isin(at)]
        if len(own):
            own = own.assign(x=own.variant.map(at))
            seed_lines(ax, own, "x", COLOURS[colour])
            seed_bars(ax, own, "x", COLOURS[colour], label)
    ax.set_xticks(range(len(sizes)), ["none" if size < 0 else str(size) for size in sizes])
