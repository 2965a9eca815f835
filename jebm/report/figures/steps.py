"""How many steps of a chain are worth paying for: FD against the steps of short runs."""

import matplotlib.pyplot as plt
import pandas as pd

from jebm.metrics.catalogue import FLOOR
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS, CYCLE
from jebm.report.tables import load_metrics

PANELS = ("step sizes", "kernels", "space and start")


def draw(plan: StudyPlan, variants: list[str]):
    """Mean ± sd over seeds along the chains, in three panels that share the first setup: its kernel at other step
    sizes, other kernels at its step size, other spaces and starts. The density and the floor of real data as bands."""
    frame, name = load_metrics(plan), variants[0]
    frame = frame[frame.variant.isin([name, FLOOR])]
    blocks = plan.variants[name].params.evaluations.values()
    chains = {label: chain for block in blocks if block.name == "chains" for label, chain in block.chains.items()}
    figure, axes = plt.subplots(1, len(PANELS), figsize=(11.5, 3.6), layout="constrained")
    steps = _steps(frame)
    for ax, title, labels in zip(axes, PANELS, panels(chains), strict=True):
        for i, label in enumerate(labels):
            _chain(ax, frame, label, CYCLE[i % len(CYCLE)], "-" if i < len(CYCLE) else "--")
        _bands(ax, frame)
        ax.set_xscale("symlog", linthresh=5, linscale=0.5)
        ax.set_xlim(-0.5, 1.15 * steps[-1])
        ax.set_xticks(steps, map(str, steps))
        ax.minorticks_off()
        ax.set(title=title, xlabel="steps = gradients a chain")
        ax.legend(loc="upper left", bbox_to_anchor=(0, 0.9 if ax is axes[-1] else 1), fontsize=6.5)
    for ax in axes[:2]:
        ax.set_ylim(0, 1.9 * frame[frame.metric == f"fd_steps:{next(iter(chains))}/0"].value.mean())
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


def _steps(frame: pd.DataFrame) -> list[int]:
    keys = frame.metric[frame.metric.str.startswith("fd_steps:")]
    return sorted({int(key.rpartition("/")[2]) for key in keys})


def _chain(ax, frame: pd.DataFrame, label: str, colour: str, line: str) -> None:
    """A chain that diverged ends where not all seeds have all of its chains any more."""
    own = frame[frame.metric.str.startswith(f"fd_steps:{label}/")]
    step = own.metric.str.rpartition("/")[2].astype(int)
    groups = own.value.groupby(step)
    mean, sd = groups.mean(), groups.std(ddof=1).fillna(0)
    whole = groups.size() == frame.seed.nunique()
    mean, sd = mean[whole], sd[whole]
    left = frame[frame.metric == f"left_at:{label}"].value
    note = f" (diverged at {int(left.min())})" if len(left) else ""
    ax.plot(mean.index, mean, color=colour, linestyle=line, marker="o", markersize=3, label=label + note)
    ax.fill_between(mean.index, mean - sd, mean + sd, color=colour, alpha=0.12, linewidth=0)


def _bands(ax, frame: pd.DataFrame) -> None:
    density = frame[frame.metric == "fd_density"].value
    if len(density):
        mean, sd = density.mean(), density.std(ddof=1) if len(density) > 1 else 0.0
        ax.axhline(mean, color=COLOURS["density"], label="the density itself", linewidth=1)
        ax.axhspan(mean - sd, mean + sd, color=COLOURS["density"], alpha=0.2, linewidth=0)
    floor = frame[(frame.variant == FLOOR) & (frame.metric == "fd")].value
    if len(floor):
        ax.axhline(floor.iloc[0], color=COLOURS["data"], linestyle=":", linewidth=1, label="real images (floor)")
