"""ROC and precision–recall curves of outlier scores, one column per set of outliers."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from jebm.io.filenames import ARRAYS
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan, Variant
from jebm.report.figures.style import CYCLE

SCORES = {"anomaly": ("kl+f", "log-joint"), "detection": ("elbo+f", "elbo")}
"""Evaluation → the scores that are shown, the first as a solid line."""
GRID = np.linspace(0, 1, 201)


def draw(plan: StudyPlan, variants: list[str]):
    """ROC curves (above) and precision–recall curves (below) of outlier scores, a column per data set and set of
    outliers, which are the positive class. Colours are variants; the line style is the score. Curves are means over
    seeds at equal false-positive rate, or recall, of the last model of each training; bands are the range over seeds.
    Dotted: random scores."""
    columns: dict[tuple[str, str], list[str]] = {}
    runs = {name: [_scores(plan.variants[name], seed) for seed in plan.seeds] for name in variants}
    for name in variants:
        for outliers in runs[name][0][1]:
            columns.setdefault((plan.variants[name].dataset.id, outliers), []).append(name)
    size = (max(2.3 * len(columns) + 0.4, 4.5), 4.9)
    figure, axes = plt.subplots(
        2, len(columns), figsize=size, squeeze=False, sharex=True, sharey="row", layout="constrained"
    )
    methods = list(dict.fromkeys(_method(plan.variants[name]) for name in variants))
    for (upper, lower), ((_, outliers), names) in zip(axes.T, columns.items(), strict=True):
        for name in names:
            method = _method(plan.variants[name])
            colour = CYCLE[methods.index(method) % len(CYCLE)]
            for style, score in zip(("-", "--"), _shown(plan.variants[name]), strict=True):
                pairs = [(normal[score], found[outliers][score]) for normal, found in runs[name]]
                for ax, curves in zip((upper, lower), (roc(pairs), precision_recall(pairs)), strict=True):
                    label = " ".join([*([method] if len(methods) > 1 else []), score])
                    ax.plot(GRID, curves.mean(0), style, color=colour, linewidth=1.2, label=label)
                    ax.fill_between(GRID, curves.min(0), curves.max(0), color=colour, alpha=0.12, linewidth=0)
        share = np.mean([len(found) / (len(found) + len(normal)) for normal, found in pairs])
        upper.plot([0, 1], [0, 1], color="black", linewidth=0.5, linestyle=":")
        lower.axhline(share, color="black", linewidth=0.5, linestyle=":")
        digit = getattr(plan.variants[names[0]].params.dataset, "held_out_class", None)
        upper.set(title=outliers if digit is None else f"{outliers}: {digit}", xlabel="false positives")
        lower.set(xlabel="recall", xlim=(0, 1), ylim=(0, 1.03))
        upper.tick_params(labelbottom=True)
    axes[0][0].set_ylabel("outliers found")
    axes[1][0].set_ylabel("precision")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def roc(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The share of outliers found at each false-positive rate of the grid, (pairs, grid), for each pair of scores of
    normal images and of outliers (high means outlier)."""
    rates = [roc_curve(*_labelled(*pair))[:2] for pair in pairs]
    return np.stack([np.interp(GRID, false_positive, true_positive) for false_positive, true_positive in rates])


def precision_recall(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Precision at the highest threshold that finds each share of the outliers on the grid, (pairs, grid): the steps
    whose area is the average precision."""
    curves = []
    for pair in pairs:
        precision, recall, _ = precision_recall_curve(*_labelled(*pair))
        found, first = np.unique(recall[::-1], return_index=True)
        at = np.searchsorted(found, np.maximum(GRID - 1e-9, found[1]))  # the point at recall 0 belongs to no threshold
        curves.append(precision[::-1][first][at])
    return np.stack(curves)


def _labelled(normal: np.ndarray, outliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = np.concatenate([np.zeros(len(normal)), np.ones(len(outliers))])
    return labels, np.concatenate([normal, outliers])


def _scores(variant: Variant, seed: int) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """Score → values of the normal images; and set of outliers → score → values of its images."""
    (block, stage), *_ = variant.evaluations_named(*SCORES)
    found: dict[str, dict[str, np.ndarray]] = {}
    arrays, _ = read_tensors(stage.run_folder(seed) / ARRAYS, lambda key: key.startswith("score/"))
    for key, array in arrays.items():
        _, name, score = key.split("/", 2)
        found.setdefault(name, {})[score] = array.numpy()
    return found.pop(block.reference), found


def _shown(variant: Variant) -> tuple[str, ...]:
    (block, _), *_ = variant.evaluations_named(*SCORES)
    return SCORES[block.name]


def _method(variant: Variant) -> str:
    """The name of a variant without its held-out digit."""
    return variant.name.removesuffix(f"-{getattr(variant.params.dataset, 'held_out_class', None)}")
