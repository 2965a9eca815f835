"""The effect of chains on the noise of each layer for f = 0, under the exact density and the biased one."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from jebm.io.filenames import ARRAYS
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS

COLOUR = {"exact": COLOURS["ebm"], "biased": COLOURS["gaussian"]}
EXPECTED = {"color": "black", "linewidth": 0.6, "linestyle": ":", "label": "expected of white noise"}


def draw(plan: StudyPlan, variants: list[str]):
    """The noise of each layer after chains with f = 0, top layer first, under the exact and the biased density: its
    mean and variance, as points per seed, and a histogram of the dimension that the biased density shifts most, at the
    first seed. Dotted: white noise."""
    variant = plan.variants[variants[0]]
    (block, stage), *_ = variant.evaluations_named("whiteness")
    runs = [read_tensors(stage.run_folder(seed) / ARRAYS)[0] for seed in plan.seeds]
    predicted = float(runs[0]["predicted"])
    figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.2), layout="constrained")
    _by_layer(axes[0], runs, "mean")
    axes[0].axhline((predicted / block.count) ** 0.5, **EXPECTED)
    axes[0].set(title=f"mean of ε after {block.steps} steps, f = 0", ylim=(0, None))
    _by_layer(axes[1], runs, "variance")
    axes[1].axhline(predicted, **EXPECTED)
    axes[1].set(title="variance of ε")
    _histogram(axes[2], runs[0], predicted)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _by_layer(ax, runs: list[dict[str, torch.Tensor]], what: str) -> None:
    layers = len(runs[0][f"exact/{what}"])
    for name, colour in COLOUR.items():
        values = np.stack([run[f"{name}/{what}"].numpy()[::-1] for run in runs])
        ax.plot(range(layers), values.mean(0), color=colour, linewidth=0.8, label=f"{name} density")
        ax.plot(range(layers), values.T, "o", color=colour, markersize=3)
    shown = range(0, layers, -(-layers // 10))
    ax.set_xticks(shown, [f"z{layers - i}" for i in shown])
    ax.set_xlabel("layer, from the top")


def _histogram(ax, run: dict[str, torch.Tensor], variance: float) -> None:
    values = {name: run[f"{name}/draws"].numpy() for name in COLOUR}
    edges = np.linspace(min(v.min() for v in values.values()), max(v.max() for v in values.values()), 41)
    for name, colour in COLOUR.items():
        ax.hist(values[name], edges, density=True, color=colour, alpha=0.5)
    x = np.linspace(edges[0], edges[-1], 200)
    ax.plot(x, np.exp(-0.5 * x**2 / variance) / np.sqrt(2 * np.pi * variance), **EXPECTED)
    ax.set(title="the dimension that moves most", xlabel="ε", yticks=[])
