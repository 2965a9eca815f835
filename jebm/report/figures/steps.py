"""The number of chain steps: FD against the steps of short runs."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from jebm.metrics.catalogue import FLOOR
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS, CYCLE, floor_line, over_seeds, seed_band
from jebm.report.frame import values

PANELS = ("step sizes", "kernels", "space and start")


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """Fréchet distance along short runs of 1,000 chains; each step costs one gradient, with or without the Metropolis
    test. Lines are means over seeds, bands their standard deviation. The first setup of the study is shown in all
    panels; the others vary its step size, its kernel, its space and its start (that panel is logarithmic). The yellow
    band is the learned density itself, importance-resampled, to which every correct chain converges: lower values are
    an effect of stopping a chain early. A curve ends where the first chain has diverged."""
    name = variants[0]
    frame = frame[frame.variant.isin([name, FLOOR])]
    compared = plan.variants[name].evaluations_named("chain-comparison")
    chains = {label: chain for block, _ in compared for label, chain in block.chains.items()}
    figure, axes = plt.subplots(1, len(PANELS), figsize=(11.5, 3.6), layout="constrained")
    steps = sorted(set(frame[frame.metric == "fd_steps"].step.astype(int)))
    for ax, title, labels in zip(axes, PANELS, panels(chains), strict=True):
        for i, label in enumerate(labels):
            _chain(ax, frame, label, CYCLE[i % len(CYCLE)], "-" if i < len(CYCLE) else "--")
        _bands(ax, frame)
        ax.set_xscale("symlog", linthresh=5, linscale=0.5)
        ax.set_xlim(-0.5, 1.15 * steps[-1])
        ax.set_xticks(steps, map(str, steps))
        ax.minorticks_off()
        ax.set(title=title, xlabel="steps = gradients per chain")
        ax.legend(loc="upper left", bbox_to_anchor=(0, 0.9 if ax is axes[-1] else 1), fontsize=6.5)
    for ax in axes[:2]:
        ax.set_ylim(0, 1.9 * values(frame, "fd_steps", set=next(iter(chains)), step="0").value.mean())
    axes[2].set_yscale("log")
    axes[0].set_ylabel("FD")
    return figure


def panels(chains: dict) -> list[list[str]]:
    """The labels of each panel; the first setup, with which the others are compared, is in all of them."""
    first, reference = next(iter(chains.items()))
    sizes, kernels, spaces = [], [], []
    for label, chain in chains.items():
        same = chain.kernel.name == reference.kernel.name and chain.kernel.adjusted == reference.kernel.adjusted
        if label == first or chain.space != reference.space or chain.start != reference.start:
            spaces.append(label)
        if label == first or (same and label not in spaces):
            sizes.append(label)
        if label == first or (chain.kernel.step_size == reference.kernel.step_size and label not in spaces):
            kernels.append(label)
    return [sizes, kernels, spaces]


def _chain(ax: Axes, frame: pd.DataFrame, label: str, colour: str, line: str) -> None:
    """The curve of a chain ends where not all seeds have all of their chains any more."""
    own = frame[(frame.metric == "fd_steps") & (frame.set == label)]
    own = own.assign(k=own.step.astype(int))
    whole = own.groupby("k").seed.transform("size") == frame.seed.nunique()
    stats = over_seeds(own[whole], "k")
    left = values(frame, "left_at", set=label).value
    note = f" (diverged at {int(left.min())})" if len(left) else ""
    ax.plot(stats.index, stats["mean"], color=colour, linestyle=line, marker="o", markersize=3, label=label + note)
    low, high = stats["mean"] - stats.sd, stats["mean"] + stats.sd
    ax.fill_between(stats.index, low, high, color=colour, alpha=0.12, linewidth=0)


def _bands(ax: Axes, frame: pd.DataFrame) -> None:
    density = values(frame, "fd_density").value
    if len(density):
        seed_band(ax, density, COLOURS["density"], "the density itself", alpha=0.2, linewidth=1)
    floor_line(ax, frame, "fd", linewidth=1)
