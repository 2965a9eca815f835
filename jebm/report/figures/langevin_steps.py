"""FD against the number of Langevin steps at test time."""

import matplotlib.pyplot as plt
import pandas as pd

from jebm.metrics.catalogue import METRICS, frechet_metric
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS, floor_line, seed_band, seed_bars, seed_lines
from jebm.report.frame import values


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """Fréchet distance to held-out images against the number of Langevin steps at test time. Thin lines are seeds, the
    thick line is their mean ± standard deviation. The bands are the Gaussian prior, where the chains start, and the
    learned density itself, sampled by importance resampling. If the chains end below that band, the short chain is a
    better sampler than the density that it is supposed to sample."""
    metric = frechet_metric(frame.metric)
    frame = values(frame, metric)
    figure, ax = plt.subplots(figsize=(5.2, 3.4))
    samplers = {name: plan.variants[name].params.draw_samples.sampler for name in variants}
    chains = {name: sampler.steps for name, sampler in samplers.items() if sampler.name == "chain"}
    own = frame[frame.variant.isin(chains)]
    own = own.assign(k=own.variant.map(chains))
    seed_lines(ax, own, "k", COLOURS["ebm"])
    seed_bars(ax, own, "k", COLOURS["ebm"], "EBM, k steps")
    for name, sampler in samplers.items():
        if name not in chains:
            colour = COLOURS["density" if sampler.name == "resampling" else "gaussian"]
            seed_band(ax, frame[frame.variant == name].value, colour, name)
    floor_line(ax, frame, metric)
    steps = sorted(chains.values())
    ax.set(xscale="log", xlabel="Langevin steps k at test time", ylabel=METRICS[metric].label, xticks=steps)
    ax.set_xticks(steps, map(str, steps))
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
