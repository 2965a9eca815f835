"""The statistics of chain ends against the number of steps: short-run energies and fitted densities."""

import matplotlib.pyplot as plt
import pandas as pd

from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import CYCLE, seed_bars, seed_lines


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """Fréchet distance in ε between the states of chains from N(0, I) after k steps and posterior draws of the training
    images, for the first chain of each variant's evaluation (Agoritsas et al., arXiv 2301.09428). The energy of a short
    run has its minimum near the number of steps with which it was trained (dotted line); with a fitted density the
    distance falls to that of the density. Thin lines are seeds."""
    figure, ax = plt.subplots(figsize=(5.6, 3.4))
    for place, name in enumerate(variants):
        params, colour = plan.variants[name].params, CYCLE[place % len(CYCLE)]
        blocks = [block for block in params.evaluations.values() if hasattr(block, "chains")]
        label = next(iter(blocks[0].chains))
        own = frame[(frame.variant == name) & (frame.metric == "fd_latent") & (frame.set == label)]
        own = own.assign(k=own.step.astype(int))
        seed_lines(ax, own, "k", colour)
        seed_bars(ax, own, "k", colour, name)
        if (estimator := params.train_prior.estimator) and estimator.name == "short-run":
            ax.axvline(estimator.steps, color=colour, linestyle=":", linewidth=1)
    steps = sorted(set(own.k))
    ax.set_xscale("symlog", linthresh=5, linscale=0.5)
    ax.set_xticks(steps, map(str, steps))
    ax.minorticks_off()
    ax.set(xlabel="steps k of the chain", ylabel="Fréchet distance in ε")
    ax.legend(fontsize=8)
    return figure
