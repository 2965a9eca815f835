"""FD against the number of Langevin steps at test time."""

import matplotlib.pyplot as plt
import numpy as np

from jebm.metrics.catalogue import FLOOR, METRICS, frechet_metric
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS
from jebm.report.tables import load_metrics


def draw(plan: StudyPlan, variants: list[str]):
    """Each seed as a thin line, their mean ± sd as a thick one; the start, the density and the floor as bands."""
    frame = load_metrics(plan)
    metric = frechet_metric(frame.metric)
    frame = frame[frame.metric == metric]
    figure, ax = plt.subplots(figsize=(5.2, 3.4))
    chains = {name: plan.variants[name].params.draw_samples.sampler for name in variants}
    chains = sorted((sampler.steps, name) for name, sampler in chains.items() if sampler.name == "chain")
    steps = [k for k, _ in chains]
    values = np.array([frame[frame.variant == name].sort_values("seed").value for _, name in chains])
    for row in values.T:
        ax.plot(steps, row, color=COLOURS["ebm"], alpha=0.3, linewidth=0.8)
    sd = values.std(1, ddof=1) if values.shape[1] > 1 else np.zeros(len(steps))
    ax.errorbar(steps, values.mean(1), sd, color=COLOURS["ebm"], marker="o", capsize=3, label="EBM, k steps")
    for name in variants:
        sampler = plan.variants[name].params.draw_samples.sampler.name
        if sampler == "chain":
            continue
        kind = "density" if sampler == "resampling" else "gaussian"
        _band(ax, frame[frame.variant == name].value, COLOURS[kind], name)
    floor = frame[frame.variant == FLOOR].value
    if len(floor):
        ax.axhline(floor.iloc[0], color=COLOURS["data"], linestyle=":", label="real images (floor)")
    ax.set(xscale="log", xlabel="Langevin steps k at test time", ylabel=METRICS[metric].label, xticks=steps)
    ax.set_xticks(steps, map(str, steps))
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _band(ax, values, colour, label):
    mean, sd = values.mean(), values.std(ddof=1) if len(values) > 1 else 0.0
    ax.axhline(mean, color=colour, label=label)
    ax.axhspan(mean - sd, mean + sd, color=colour, alpha=0.15, linewidth=0)
