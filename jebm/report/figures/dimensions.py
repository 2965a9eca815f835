"""Estimators of the negative phase against the number of latent dimensions."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from jebm.metrics.catalogue import frechet_metric
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import CYCLE, seed_bars
from jebm.report.frame import values


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """Estimators at growing latent dimension: FD, the gain of the importance-weighted bound over the mixture on the
    same backbone, and the effective sample size behind log Z. Points are means over seeds with their standard
    deviation. A point of the bound is missing where the estimates of log Z disagree at a seed."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    dimensions = {name: sum(plan.variants[name].params.backbone.latent_dims) for name in variants}
    kinds = list(dict.fromkeys(name.partition("-")[2] for name in variants))
    panels = {
        "FD": _own(frame, frechet_metric(frame.metric)),
        "bound − mixture's, nats per image": _gains(frame, variants),
        "effective sample size of log Z": _own(frame, "log_z_ess"),
    }
    for ax, (title, values_of) in zip(axes, panels.items(), strict=True):
        for place, kind in enumerate(kinds):
            names = [name for name in variants if name.partition("-")[2] == kind]
            _line(ax, values_of(names), dimensions, len(plan.seeds), CYCLE[place % len(CYCLE)], kind)
        ticks = sorted(set(dimensions.values()))
        ax.set(xscale="log", xlabel="latent dimensions", title=title)
        ax.set_xticks(ticks, map(str, ticks))
        ax.minorticks_off()
    for ax in axes[[0, 2]]:
        ax.set_yscale("log")
    axes[1].axhline(0, color="black", linewidth=0.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _own(frame: pd.DataFrame, metric: str) -> Callable[[list[str]], pd.DataFrame]:
    return lambda names: values(frame, metric)[lambda found: found.variant.isin(names)]


def _gains(frame: pd.DataFrame, variants: list[str]) -> Callable[[list[str]], pd.DataFrame]:
    """The bound of each variant less that of the variant DIMENSION-mixture at the same seed."""
    bound = values(frame, "iw_bound")
    base = bound[bound.variant.isin([name for name in variants if name.endswith("-mixture")])]
    base = base[~base.variant.str.contains("-.*-", regex=True)]
    known = {
        (name.partition("-")[0], seed): value
        for name, seed, value in zip(base.variant, base.seed, base.value, strict=True)
    }

    def of(names: list[str]) -> pd.DataFrame:
        own = bound[bound.variant.isin(names)]
        keys = zip(own.variant.str.partition("-")[0], own.seed, strict=True)
        return own.assign(value=own.value - [known.get(key, float("nan")) for key in keys])

    return of


def _line(ax: Axes, own: pd.DataFrame, dimensions: dict[str, int], seeds: int, colour: str, label: str) -> None:
    """The means over seeds, where all seeds have a value."""
    if own.empty:
        return
    whole = own[own.groupby("variant").seed.transform("size") == seeds]
    seed_bars(ax, whole.assign(x=whole.variant.map(dimensions)), "x", colour, label)
