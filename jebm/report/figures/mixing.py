"""Mixing of chains in long runs: autocorrelation, R-hat, and effective samples per step."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from jebm.io.filenames import ARRAYS
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import CYCLE
from jebm.report.frame import values


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """The second half of long runs of a few chains: autocorrelation of the slowest of f and all latents, the largest
    rank-normalised split R-hat against the length of the run (dotted: 1.01), and effective samples per 1,000 steps of
    one chain, with the range over seeds. Lines are means over seeds. Unadjusted chains converge to another density than
    the learned one."""
    variant = plan.variants[variants[0]]
    compared = variant.evaluations_named("chain-comparison")
    runs = [{} for _ in plan.seeds]
    for _, stage in compared:
        for run, seed in zip(runs, plan.seeds, strict=True):
            run |= read_tensors(stage.run_folder(seed) / ARRAYS)[0]
    chains = [label for block, _ in compared for label in block.chains]
    labels = [label for label in chains if all(f"{label}/r_hat" in run for run in runs)]
    figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.4), layout="constrained")
    for i, label in enumerate(labels):
        style = {"color": CYCLE[i % len(CYCLE)], "linestyle": "-" if i < len(CYCLE) else "--", "linewidth": 1.2}
        decay = np.mean([run[f"{label}/autocorrelation"].numpy() for run in runs], 0)
        axes[0].plot(decay[:, 1], label=label, **style)
        grown = np.mean([run[f"{label}/r_hat"].numpy() for run in runs], 0)
        axes[1].plot(grown[:, 0], grown[:, 1], marker="o", markersize=3, **style)
    _efficiency(axes[2], frame[frame.variant == variants[0]], labels)
    axes[0].axhline(0, color="black", linewidth=0.5)
    axes[0].set(title="autocorrelation of the slowest", xlabel="lag, steps", ylim=(-0.1, 1))
    axes[1].axhline(1.01, color="black", linewidth=0.5, linestyle=":")
    axes[1].set(title="worst R-hat of the second half", xlabel="steps of the run", xscale="log", yscale="log")
    windows = runs[0][f"{labels[0]}/r_hat"][:, 0].int().tolist()
    axes[1].set_xticks(windows, map(str, windows))
    axes[1].xaxis.minorticks_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=7)
    return figure


def _efficiency(ax: Axes, frame: pd.DataFrame, labels: list[str]) -> None:
    for i, label in enumerate(labels):
        found = 1000 * values(frame, "ess_per_step", set=label).value
        if len(found):
            ax.plot([found.min(), found.max()], [i, i], color=CYCLE[i % len(CYCLE)], linewidth=1)
            ax.plot(found.mean(), i, "o", color=CYCLE[i % len(CYCLE)], markersize=4)
    ax.set_yticks(range(len(labels)), labels, fontsize=7)
    ax.invert_yaxis()
    ax.set(title="effective samples in 1,000 steps", xlim=(0, None))
