"""Training curves of both stages, all seeds."""

import matplotlib.pyplot as plt
import pandas as pd

from jebm.plan import HISTORY, StudyPlan
from jebm.report.figures.style import CYCLE


def draw(plan: StudyPlan, variants: list[str]):
    """ELBO and the KL of each layer in stage 1; energy gap and acceptance in stage 2. A line a seed."""
    variant = plan.variants[variants[0]]
    figure, axes = plt.subplots(1, 4, figsize=(12, 2.6), layout="constrained")
    settled = 0.0  # the largest KL at the end; the first steps go far above it
    for seed in plan.seeds:
        first = pd.read_csv(variant.backbone.run_folder(seed) / HISTORY)
        second = pd.read_csv(variant.prior.run_folder(seed) / HISTORY)
        axes[0].plot(first.step, first.elbo, color=CYCLE[0], alpha=0.6)
        for i, layer in enumerate(c for c in first.columns if c.startswith("kl_")):
            settled = max(settled, first[layer].iloc[-1])
            label = f"KL of {layer.removeprefix('kl_')}" if seed == plan.seeds[0] else None
            axes[1].plot(first.step, first[layer], color=CYCLE[i % len(CYCLE)], alpha=0.6, label=label)
        axes[2].plot(second.step, second.energy_gap, color=CYCLE[0], alpha=0.6)
        axes[3].plot(second.step, second.acceptance, color=CYCLE[0], alpha=0.6)
    axes[0].set(title="stage 1: ELBO of a batch", ylabel="nats an image", ylim=(-30, None))
    axes[1].set(title="stage 1: KL of each layer", ylabel="nats an image", ylim=(0, 2.5 * settled))
    axes[1].legend()
    axes[2].set(title="stage 2: energy gap of a batch", ylabel="nats")
    axes[2].axhline(0, color="black", linewidth=0.5)
    axes[3].set(title="stage 2: acceptance", ylim=(None, 1))
    for ax in axes:
        ax.set_xlabel("step")
    return figure
