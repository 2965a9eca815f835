"""Histograms of the tilt: posterior draws, draws of the Gaussian prior, and the states of chains that start there."""

import matplotlib.pyplot as plt
import numpy as np

from jebm.io.filenames import ARRAYS
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan, Variant
from jebm.report.figures.style import COLOURS, CYCLE


def draw(plan: StudyPlan, variants: list[str]):
    """Histograms of the tilt, which is f(z) for the base N(0, I), one panel per prior at the first seed: on one
    posterior draw for each held-out image, on draws of the Gaussian prior, and on the states of chains that start at
    these draws. Short-run training fits the states after its own number of steps to the posterior draws, maximum
    likelihood the density, which chains reach only if they mix."""
    figure, axes = plt.subplots(1, len(variants), figsize=(4 * len(variants), 2.9), squeeze=False, layout="constrained")
    for ax, name in zip(axes[0], variants, strict=True):
        variant = plan.variants[name]
        (_, stage), *_ = variant.evaluations_named("trajectories")
        arrays, _ = read_tensors(stage.run_folder(plan.seeds[0]) / ARRAYS)
        steps, tilts = arrays["steps"].tolist(), arrays["tilt/chains"].numpy()
        shown = {k: tilts[steps.index(k)] for k in _chosen(variant, steps)}
        posterior = arrays["tilt/posterior"].numpy()
        ends = np.quantile(np.concatenate([posterior, *shown.values()]), [0.005, 0.995])
        bins = np.linspace(*ends, 50)
        ax.hist(posterior, bins, density=True, color=COLOURS["data"], alpha=0.45, label="posterior draws")
        for colour, (k, values) in zip((COLOURS["gaussian"], COLOURS["ebm"], CYCLE[2]), shown.items(), strict=False):
            label = f"after {k} steps" if k else "Gaussian prior (0 steps)"
            ax.hist(values, bins, density=True, histtype="step", color=colour, linewidth=1.5, label=label)
        ax.set(xlabel="tilt, nats", title=f"{name}, seed {plan.seeds[0]}", yticks=[])
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=7)
    axes[0][0].set_ylabel("density")
    return figure


def _chosen(variant: Variant, steps: list[int]) -> list[int]:
    """The first and the last number of steps, and that of short-run training, or else a middle one."""
    estimator = variant.params.train_prior.estimator
    own = estimator.steps if estimator and estimator.name == "short-run" else None
    return sorted({steps[0], own if own in steps else steps[len(steps) // 2], steps[-1]})
