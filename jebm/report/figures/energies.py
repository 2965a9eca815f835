"""Histograms of the tilt on posterior draws, on samples, and on the Gaussian prior from which they start."""

import matplotlib.pyplot as plt
import numpy as np

from jebm.io.filenames import ARRAYS, SAMPLES
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS


def draw(plan: StudyPlan, variants: list[str]):
    """Histograms of the tilt, which is f(z) for the base N(0, I), on posterior draws for held-out images and on
    samples, one panel per seed. At the optimum both distributions agree."""
    variant = plan.variants[variants[0]]
    figure, axes = plt.subplots(
        1, len(plan.seeds), figsize=(2.7 * len(plan.seeds), 2.4), squeeze=False, sharey=True, layout="constrained"
    )
    for ax, seed in zip(axes[0], plan.seeds, strict=True):
        posterior = read_tensors(variant.density_metrics.run_folder(seed) / ARRAYS)[0]["tilt/posterior"].numpy()
        samples = read_tensors(variant.samples.run_folder(seed) / SAMPLES, {"tilt"}.__contains__)[0]["tilt"].numpy()
        low, high = np.quantile(np.concatenate([posterior, samples]), [0.002, 0.998])
        bins = np.linspace(low, high, 40)
        ax.hist(posterior, bins, density=True, color=COLOURS["data"], alpha=0.5, label="posterior, held-out images")
        ax.hist(samples, bins, density=True, histtype="step", color=COLOURS["ebm"], linewidth=1.5, label=variants[0])
        ax.set(xlabel="tilt, nats", title=f"seed {seed}")
    axes[0][0].set_ylabel("density")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
