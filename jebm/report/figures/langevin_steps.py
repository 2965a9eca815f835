"""FD against the number of Langevin steps at test time."""

import matplotlib.pyplot as plt
import pandas as pd

from jebm.metrics.catalogue import METRICS, frechet_metric
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS, CYCLE, floor_line, seed_band, seed_bars, seed_lines
from jebm.report.frame import chain_steps, values


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """Fréchet distance to held-out images against the number of Langevin steps from N(0, I) at test time, one colour
    for each trained prior. Thin lines are seeds, thick lines their mean ± standard deviation. The dashed bands are
    samples of the learned densities themselves, by resampling or by chains from the proposal. If the chains end below
    the band of their density, the short chain is a better sampler than the density that it is supposed to sample."""
    metric = frechet_metric(frame.metric)
    frame = values(frame, metric)
    figure, ax = plt.subplots(figsize=(5.6, 3.4))
    chains = chain_steps(plan, variants)
    trained = list(dict.fromkeys(plan.variants[name].prior.id for name in chains))
    cycle = [colour for colour in CYCLE if colour != COLOURS["gaussian"]]
    colours = {identity: cycle[place % len(cycle)] for place, identity in enumerate(trained)}
    for identity, colour in colours.items():
        steps = {name: k for name, k in chains.items() if plan.variants[name].prior.id == identity}
        own = frame[frame.variant.isin(steps)]
        own = own.assign(k=own.variant.map(steps))
        seed_lines(ax, own, "k", colour)
        seed_bars(ax, own, "k", colour, f"{_common(steps)}, k steps")
    for name in variants:
        if name not in chains:
            colour = colours.get(plan.variants[name].prior.id, COLOURS["gaussian"])
            seed_band(ax, frame[frame.variant == name].value, colour, name, linestyle="--")
    floor_line(ax, frame, metric)
    steps = sorted(set(chains.values()))
    ax.set(xscale="log", xlabel="Langevin steps k at test time", ylabel=METRICS[metric].label, xticks=steps)
    ax.set_xticks(steps, map(str, steps))
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _common(steps: dict[str, int]) -> str:
    """The name that variants with different numbers of steps share: ``short-run`` of ``short-run-k10``."""
    return min((name.removesuffix(f"-k{k}") for name, k in steps.items()), key=len)
