"""Quality against cost: FD by the operations of training and of sampling."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from jebm.metrics.catalogue import METRICS, frechet_metric
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS, CYCLE, floor_line
from jebm.report.frame import values

PANELS = {"training_operations": "training", "sampling_operations": "sampling"}


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """Fréchet distance to held-out images against the operations of stage 2 (left) and of the sampler, per sample
    (right), for priors on the same backbone. Points are means over seeds with their standard deviation; variants with
    equal prefixes of their backbone (``l8-``) have a panel row of their own. The line joins the priors that no other
    one beats in both: those that are cheaper have a larger distance. A cost of 0 stands at the left edge."""
    metric = frechet_metric(frame.metric)
    groups = by_backbone(plan, variants)
    figure, axes = plt.subplots(len(groups), 2, figsize=(10, 4 * len(groups)), layout="constrained", squeeze=False)
    for row, names in zip(axes, groups, strict=True):
        quality = values(frame, metric).groupby("variant").value.agg(["mean", "std"]).reindex(names)
        for ax, (cost, title) in zip(row, PANELS.items(), strict=True):
            known = METRICS[cost]
            spent = values(frame, cost).groupby("variant").value.mean().reindex(names) * known.scale
            _points(ax, spent, quality)
            floor_line(ax, frame, metric)
            ax.set_xscale("symlog", linthresh=max(spent[spent > 0].min(), 1e-9), linscale=0.3)
            ax.set(xlim=(0, 3 * spent.max() or 1), xlabel=known.label, title=title)  # names stand to the right
            ax.set_yscale("log")
        row[0].set_ylabel(METRICS[metric].label)
    return figure


def by_backbone(plan: StudyPlan, variants: list[str]) -> list[list[str]]:
    """The variants in groups that share a backbone, in order."""
    groups: dict[str, list[str]] = {}
    for name in variants:
        groups.setdefault(plan.variants[name].backbone.id, []).append(name)
    return list(groups.values())


def frontier(cost: pd.Series, quality: pd.Series) -> list[str]:
    """The variants that no other one beats or equals in cost and in quality (lower is better), by cost."""
    best, kept = float("inf"), []
    for name in sorted(cost.dropna().index, key=lambda name: (cost[name], quality[name])):
        if quality[name] < best:
            best = quality[name]
            kept.append(name)
    return kept


def _points(ax: Axes, cost: pd.Series, quality: pd.DataFrame) -> None:
    for place, name in enumerate(cost.dropna().index):
        mean, spread = quality.loc[name, "mean"], quality.loc[name, "std"]
        ax.errorbar(
            cost[name], mean, 0 if pd.isna(spread) else spread, color=CYCLE[place % len(CYCLE)], marker="o", capsize=2
        )
        ax.annotate(name, (cost[name], mean), xytext=(4, 4), textcoords="offset points", fontsize=6.5)
    edge = frontier(cost, quality["mean"])
    ax.plot(cost[edge], quality["mean"][edge], color=COLOURS["data"], linewidth=0.8, drawstyle="steps-post")
