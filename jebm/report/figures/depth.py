"""The effect of depth: FD of each kind of prior against the number of layers, and the KL of each layer."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from jebm.config.checks import layer_count
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import CYCLE, floor_line, seed_bars
from jebm.report.frame import values


def draw(plan: StudyPlan, variants: list[str], frame: pd.DataFrame):
    """Left: FD against the number of latent layers for each kind of prior, with the same number of latent dimensions;
    dots are seeds, lines their mean ± standard deviation. Right: the KL of each layer on held-out images; a layer below
    the dotted line (0.5 nats) counts as unused."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    depths = {name: layer_count(plan.variants[name].params.backbone) for name in variants}
    kinds: dict[str, list[str]] = {}
    for name in variants:
        params = plan.variants[name].params
        energy = getattr(params.prior, "energy", None)
        kind = params.prior.name if energy is None else f"{params.prior.name}, {energy.name} energies"
        kinds.setdefault(kind, []).append(name)
    fd = values(frame, "fd")
    for place, (colour, (kind, members)) in enumerate(zip(CYCLE, kinds.items(), strict=False)):
        shift = 1 + 0.03 * (place - len(kinds) / 2)
        own = fd[fd.variant.isin(members)]
        own = own.assign(x=own.variant.map(depths) * shift)
        left.plot(own.x, own.value, ".", color=colour, alpha=0.4, markersize=4)
        seed_bars(left, own, "x", colour, kind)
    floor_line(left, frame, "fd")
    left.set(xscale="log", xlabel="layers", ylabel="FD", ylim=(0, None))
    left.set_xticks(sorted(set(depths.values())), map(str, sorted(set(depths.values()))))
    left.minorticks_off()
    left.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.16), ncols=2)
    _layers(right, frame[(frame.metric == "kl") & (frame.layer != "")], depths)
    return figure


def _layers(ax: Axes, kl: pd.DataFrame, depths: dict[str, int]) -> None:
    """KL per layer of the variants in which it was measured."""
    kl = kl.assign(x=kl.layer.str.removeprefix("z").astype(int))
    measured = [name for name in depths if name in set(kl.variant)]
    for place, name in enumerate(measured):
        colour = CYCLE[place % len(CYCLE)]
        seed_bars(ax, kl[kl.variant == name], "x", colour, f"{depths[name]} layers", capsize=2)
    ax.axhline(0.5, color="black", linewidth=0.5, linestyle=":")
    ax.set(xlabel="layer (1: bottom)", ylabel="KL, nats per image", yscale="log")
    ax.set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    ax.minorticks_off()
    ax.legend(fontsize=8)
