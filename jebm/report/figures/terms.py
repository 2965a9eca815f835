"""Which terms of the energy do the work: FD of the density without each of them, and with each alone."""

import matplotlib.pyplot as plt
import numpy as np

from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS
from jebm.report.tables import load_metrics


def draw(plan: StudyPlan, variants: list[str]):
    """A panel a variant; bars are means over seeds, dots are seeds. Dashed: the whole density."""
    frame = load_metrics(plan)
    figure, axes = plt.subplots(
        1, len(variants), figsize=(3.6 * len(variants), 3.2), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, name in zip(axes[0], variants, strict=True):
        rows = frame[frame.variant == name]
        whole = rows[rows.metric == "fd_without:none"].value.mean()
        keys = [m.split(":")[1] for m in dict.fromkeys(rows.metric) if m.startswith("fd_without:z")]
        for offset, (family, colour, label) in enumerate(
            (
                ("fd_without", COLOURS["ebm"], "without this term"),
                ("fd_with_only", COLOURS["gaussian"], "this term only"),
            )
        ):
            values = [rows[rows.metric == f"{family}:{key}"].value.to_numpy() for key in keys]
            if not all(len(column) for column in values):
                continue
            at = np.arange(len(keys)) + 0.4 * offset - 0.2
            ax.bar(at, [column.mean() for column in values], 0.38, color=colour, alpha=0.8, label=label)
            for x, column in zip(at, values, strict=True):
                ax.plot([x] * len(column), column, ".", color="black", markersize=3)
        ax.axhline(whole, color="black", linestyle="--", linewidth=0.8, label="all terms")
        ax.set(title=name, xticks=range(len(keys)), xlabel="term of f, bottom layer first")
        ax.set_xticklabels([key.removeprefix("z") for key in keys])
    axes[0][0].set_ylabel("FD of the density")
    axes[0][0].legend(fontsize=7)
    return figure
