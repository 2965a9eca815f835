"""Convergence of chains to the posterior, from a cold start and from the inference network."""

import matplotlib.pyplot as plt

from jebm.io.filenames import ARRAYS
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS, CYCLE

LINES = {"cold": ("chain from N(0, I)", COLOURS["gaussian"]), "warm": ("chain from the network", COLOURS["ebm"])}


def draw(plan: StudyPlan, variants: list[str]):
    """Mean log joint of posterior draws for held-out images, minus that of the reference chains, against the number of
    Langevin steps: from N(0, I), and from the inference network, whose own draws are the dashed line. The band is the
    range over the reference chains. A chain without a Metropolis test stays slightly below the reference, which is its
    bias."""
    figure, axes = plt.subplots(
        1, len(variants), figsize=(3.6 * len(variants), 2.9), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, name in zip(axes[0], variants, strict=True):
        for seed in plan.seeds:
            for stage in _evaluations(plan, name):
                _panel(ax, read_tensors(stage.run_folder(seed) / ARRAYS)[0], first=seed == plan.seeds[0])
        ax.axhline(0, color="black", linewidth=0.5)
        ax.set_yscale("symlog", linthresh=1)
        ax.set(title=name, xlabel="Langevin steps")
    axes[0][0].set_ylabel("log joint − reference, nats")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _evaluations(plan: StudyPlan, name: str) -> list:
    return [stage for _, stage in plan.variants[name].evaluations_named("posterior")]


def _panel(ax, arrays, first: bool) -> None:
    for name, (label, colour) in LINES.items():
        ax.plot(arrays["steps"], arrays[f"trace/{name}"], color=colour, alpha=0.7, label=label if first else None)
    label = "inference network" if first else None
    ax.axhline(float(arrays["network"]), color=CYCLE[2], linestyle="--", linewidth=1, label=label)
    low, high = float(arrays["reference"].min()), float(arrays["reference"].max())
    label = "reference chains, their range" if first else None
    ax.axhspan(low, high, color=COLOURS["data"], alpha=0.2, linewidth=0, label=label)
