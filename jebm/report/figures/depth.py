"""What depth is worth: FD of each kind of prior against the number of layers, and how busy each layer is."""

import matplotlib.pyplot as plt
import numpy as np

from jebm.config.checks import layer_count
from jebm.metrics.catalogue import FLOOR
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import COLOURS, CYCLE
from jebm.report.tables import load_metrics


def draw(plan: StudyPlan, variants: list[str]):
    """Left: a line a kind of energy, mean ± sd, a dot a seed. Right: KL of each layer, a line a depth."""
    frame = load_metrics(plan)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    groups: dict[str, list[tuple[int, str]]] = {}
    for name in variants:
        params = plan.variants[name].params
        energy = getattr(params.prior, "energy", None)
        kind = params.prior.name if energy is None else f"{params.prior.name}, {energy.name} energies"
        groups.setdefault(kind, []).append((layer_count(params.backbone), name))
    depths = sorted({depth for members in groups.values() for depth, _ in members})
    for shift, (colour, (kind, members)) in enumerate(zip(CYCLE, groups.items(), strict=False)):
        _kind(left, frame, sorted(members), 1 + 0.03 * (shift - len(groups) / 2), colour, kind)
    floor = frame[(frame.variant == FLOOR) & (frame.metric == "fd")].value
    if len(floor):
        left.axhline(floor.iloc[0], color=COLOURS["data"], linestyle=":", label="real images (floor)")
    left.set(xscale="log", xlabel="layers", ylabel="FD", ylim=(0, None))
    left.set_xticks(depths, map(str, depths))
    left.minorticks_off()
    left.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.16), ncols=2)
    _layers(right, frame, plan, variants)
    return figure


def _kind(ax, frame, members, shift, colour, label):
    values = [frame[(frame.variant == name) & (frame.metric == "fd")].value.to_numpy() for _, name in members]
    at = np.array([depth for depth, _ in members]) * shift
    for x, column in zip(at, values, strict=True):
        ax.plot([x] * len(column), column, ".", color=colour, alpha=0.4, markersize=4)
    sd = [column.std(ddof=1) if len(column) > 1 else 0.0 for column in values]
    ax.errorbar(at, [column.mean() for column in values], sd, color=colour, marker="o", capsize=3, label=label)


def _layers(ax, frame, plan, variants):
    """KL per layer of the variants in which it was measured."""
    position = 0
    for name in variants:
        rows = frame[(frame.variant == name) & frame.metric.str.startswith("kl:z")]
        if not len(rows):
            continue
        layers = layer_count(plan.variants[name].params.backbone)
        stats = [rows[rows.metric == f"kl:z{i + 1}"].value for i in range(layers)]
        sd = [column.std(ddof=1) if len(column) > 1 else 0.0 for column in stats]
        at, colour = np.arange(1, layers + 1), CYCLE[position % len(CYCLE)]
        ax.errorbar(at, [s.mean() for s in stats], sd, marker="o", capsize=2, color=colour, label=f"{layers} layers")
        position += 1
    ax.axhline(0.5, color="black", linewidth=0.5, linestyle=":")
    ax.set(xlabel="layer (1: bottom)", ylabel="KL, nats an image", yscale="log")
    ax.set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    ax.minorticks_off()
    ax.legend(fontsize=8)
