"""The KL of each latent layer of a deep hierarchy, and the energy gap of its term."""

import matplotlib.pyplot as plt
import pandas as pd

from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import CYCLE

PANELS = {"kl": "KL, nats per image", "energy_gap": "energy gap, nats"}


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """KL and energy gap of every latent layer, top first: lines are means over seeds of each variant, points are seeds.
    A gap near 0 means that the chains agree with the posterior in this layer."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(9, 3.2), layout="constrained")
    for ax, (metric, label) in zip(axes, PANELS.items(), strict=True):
        found = {name: _by_layer(frame, name, metric) for name in variants}
        layers = max((int(values.index.max()) for values in found.values() if len(values)), default=1)
        for i, (name, values) in enumerate(found.items()):
            if len(values):
                colour = CYCLE[i % len(CYCLE)]
                ax.plot(layers - values.index, values.mean(axis=1), color=colour, linewidth=1, label=name)
                ax.plot(layers - values.index, values, "o", color=colour, markersize=2.5)
        shown = range(0, layers, -(-layers // 10))
        ax.set_xticks(shown, [f"z{layers - place}" for place in shown])
        ax.set(title=label, xlabel="layer, from the top")
        ax.axhline(0, color="black", linewidth=0.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _by_layer(frame: pd.DataFrame, variant: str, metric: str) -> pd.DataFrame:
    """One row per layer, from 1 and with the top layer first; one column per seed."""
    rows = frame[(frame.variant == variant) & (frame.metric == metric) & (frame.layer != "")]
    rows = rows.assign(layer=rows.layer.str.removeprefix("z").astype(int))
    return rows.pivot(index="layer", columns="seed", values="value").sort_index(ascending=False)
