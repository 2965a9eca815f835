"""Training curves of both stages, or of joint training, all seeds."""

import math

import matplotlib.pyplot as plt
import pandas as pd

from jebm.io.filenames import HISTORY
from jebm.pipeline.study import StudyPlan, Variant
from jebm.report.figures.style import CYCLE

NAMED = 8
"""Layers that the legend names, at most."""


def draw(plan: StudyPlan, variants: list[str]):
    """Training curves of both stages or of joint training, one row per variant, one line per seed: the evidence lower
    bound of the Gaussian hierarchy, the KL divergence of each layer, the energy gap between posterior and prior, and
    the gain on the validation split, where it selects the weights, or else the acceptance rate of the chain or the
    effective samples of the weights. If all backbones were imported, only the latter two are shown."""
    columns = 2 if all(plan.variants[name].backbone.kind == "import_backbone" for name in variants) else 4
    figure, rows = plt.subplots(
        len(variants), columns, figsize=(3 * columns, 2.6 * len(variants)), squeeze=False, layout="constrained"
    )
    for name, axes in zip(variants, rows, strict=True):
        _row(plan, name, axes, label=f"{name}, " if len(variants) > 1 else "")
    return figure


def _row(plan: StudyPlan, name: str, axes, label: str) -> None:
    variant = plan.variants[name]
    first, second = ("", "") if variant.joint else ("stage 1: ", "stage 2: ")
    if variant.backbone.kind == "import_backbone":  # it was trained elsewhere and has no history
        for ax in axes[:-2]:
            ax.set_axis_off()
        axes[-2].set_title(f"{label}{second}energy gap of a batch")
    else:
        _backbone(plan, variant, axes[:2], f"{label}{first}", first)
    for seed in plan.seeds:
        upper = pd.read_csv(variant.prior.run_folder(seed) / HISTORY)
        if "energy_gap" not in upper:
            continue  # it diverged before anything was logged
        axes[-2].plot(upper.step, upper.energy_gap, color=CYCLE[0], alpha=0.6)
        last = next((key for key in ("validation_gain", "acceptance", "effective_samples") if key in upper), None)
        if last:
            shown = upper[upper[last].notna()]
            axes[-1].plot(shown.step, shown[last], color=CYCLE[0], alpha=0.6)
            axes[-1].set_title(f"{second}{last.replace('_', ' ')}")
            if last == "acceptance":
                axes[-1].set_ylim(None, 1)
    axes[-2].set(title=axes[-2].get_title() or f"{second}energy gap of a batch", ylabel="nats")
    axes[-2].axhline(0, color="black", linewidth=0.5)
    for ax in axes:
        ax.set_xlabel("step")


def _colour(layer: int, layers: int) -> object:
    """The colour of a layer; many layers get shades of one scale, bottom to top, of which the legend names the ends."""
    return CYCLE[layer % len(CYCLE)] if layers <= NAMED else plt.get_cmap("viridis")(layer / (layers - 1))


def _backbone(plan: StudyPlan, variant: Variant, axes, title: str, first: str) -> None:
    settled = 0.0  # the largest KL at the end; the first steps go far above it
    lowest = math.inf  # the lowest ELBO of the second half; the first steps go far below it
    for seed in plan.seeds:
        lower = pd.read_csv(variant.backbone.run_folder(seed) / HISTORY)
        if "elbo" not in lower:
            continue  # it diverged before anything was logged
        axes[0].plot(lower.step, lower.elbo, color=CYCLE[0], alpha=0.6)
        lowest = min(lowest, lower.elbo[lower.step >= lower.step.max() / 2].min())
        layers = [column for column in lower.columns if column.startswith("kl_")]
        for i, layer in enumerate(layers):
            settled = max(settled, lower[layer].iloc[-1])
            named = seed == plan.seeds[0] and (len(layers) <= NAMED or i in (0, len(layers) - 1))
            legend = f"KL of {layer.removeprefix('kl_')}" if named else None
            axes[1].plot(lower.step, lower[layer], color=_colour(i, len(layers)), alpha=0.6, label=legend)
    axes[0].set(title=f"{title}ELBO of a batch", ylabel="nats per image")
    if not variant.joint:
        axes[0].set_ylim(bottom=min(-30.0, lowest))
    axes[1].set(title=f"{first}KL of each layer", ylabel="nats per image", ylim=(0, 2.5 * settled or None))
    if axes[1].lines:
        axes[1].legend()
