"""Which values of a table can be trusted, and which differences between them exceed the noise over seeds.

A value whose own diagnostics fail is marked, is never the best, and a note says why.
"""

import math
from collections.abc import Iterable

import pandas as pd

from jebm.metrics.catalogue import BOUNDS, DISTANCES, METRICS, NOISE, STREAMED_DISTANCES
from jebm.report.diff import paired
from jebm.report.frame import values
from jebm.report.table_format import Cell, RenderedTable, fixed

MARK = "†"
LEAST_DRAWS = 100
"""Effective draws below which an estimate of log Z is not trusted: its standard error is about 0.1 nats there."""
LARGEST_BIAS = 0.05
"""Nats by which the ODE of a diffusion prior may be off in the mean; estimates of log Z may differ by as much."""
WITH_LOG_Z = (*BOUNDS, "log_z")
"""Metrics that contain the estimate of log Z by importance sampling."""
BOLD = (
    "Bold: better than all others by more than the noise over seeds (95 % intervals of the differences seed by seed)."
)
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def doubts(frame: pd.DataFrame, metrics: Iterable[str]) -> dict[tuple[str, str], str]:
    """(variant, metric) → why its value can't be trusted.

    Args:
        frame: all metrics of the study.
        metrics: those that a table shows.
    """
    found = {}
    draws = values(frame, "log_z_ess")
    effective = draws.value.groupby(draws.variant).min()
    dropped = frame[frame.metric == "non_finite"].groupby("variant").value.max()
    bias = frame[frame.metric == "ode_bias"].groupby("variant").value.agg(lambda seeds: seeds.abs().max())
    for metric in metrics:
        if metric in BOUNDS:
            for variant, number in bias[bias > LARGEST_BIAS].items():
                found[variant, metric] = f"its ODE is off by {number:.2g} nats in the mean at one seed"
        if metric in WITH_LOG_Z:
            for variant, number in effective[effective < LEAST_DRAWS].items():
                found[variant, metric] = f"log Z rests on {number:.3g} effective draws at one seed, so this is no bound"
        if metric in (*DISTANCES, *STREAMED_DISTANCES):
            for variant, share in dropped[dropped > 0].items():
                found[variant, metric] = f"up to {share:.1%} of the chains were not finite and were dropped"
    return found


def notes_on(shown: dict[tuple[str, str], str], any_bold: bool) -> list[str]:
    """The notes below a table with these doubtful values."""
    notes = [BOLD] if any_bold else []
    for reason in dict.fromkeys(shown.values()):
        of = [f"{METRICS[metric].label} of {variant}" for (variant, metric), why in shown.items() if why == reason]
        notes.append(f"{MARK} {', '.join(of)}: {reason}.")
    return notes


def errors_of_log_z(frame: pd.DataFrame, variants: Iterable[str], metrics: Iterable[str]) -> list[str]:
    """A note that states the largest standard error of log Z in the values of a table."""
    own = values(frame[frame.variant.isin(list(variants))], "log_z_se")
    agrees = values(frame, "log_z_agrees")
    refused = set(agrees[agrees.value == 0][["variant", "seed"]].itertuples(index=False, name=None))
    reported = [key not in refused for key in own[["variant", "seed"]].itertuples(index=False, name=None)]
    own = own[(own.value > 0) & pd.Series(reported, own.index, dtype=bool)]
    shown = [METRICS[metric].label for metric in metrics if metric in WITH_LOG_Z and metric != "log_z"]
    if own.empty or not shown:
        return []
    of, largest = " as well as ".join(shown), own.value.max()
    return [f"log Z, which {of} contains, is estimated, with a standard error of at most {largest:.2g} nats at a seed."]


def mark_best(cells: list[Cell], better: int) -> bool:
    """Mark the best value if it differs from all others by more than the noise over seeds, and those that are printed
    with the same digits; returns whether any is marked."""
    known = [cell for cell in cells if cell.values and not cell.doubt]
    if not better or len(known) < 2 or any(len(cell.values) < 2 for cell in known):
        return False  # a single seed has no noise to compare with
    best = max(known, key=lambda cell: better * cell.mean)
    equal = [cell for cell in known if fixed(cell.mean, cell.digits) == fixed(best.mean, best.digits)]
    others = [cell for cell in known if cell not in equal]
    if not others or not all(_differ(best, cell) for cell in others):
        return False
    for cell in equal:
        cell.best = True
    return True


def _differ(a: Cell, b: Cell) -> bool:
    """Whether the 95 % interval of the differences at the seeds that both have excludes 0."""
    one, other = (pd.DataFrame({"seed": cell.seeds, "value": cell.values}) for cell in (a, b))
    common = sorted(set(a.seeds) & set(b.seeds))
    if len(common) < 2:
        return False
    low, high, _ = paired(*(side[side.seed.isin(common)] for side in (one, other)))
    return low > 0 or high < 0


def fit_scales(frame: pd.DataFrame, metrics: Iterable[str], variants: Iterable[str]) -> tuple[pd.DataFrame, dict]:
    """The frame with values in a unit that fits their size, for metrics that are printed with a power of ten.

    Returns the frame, and label → the label with the power that was chosen.
    """
    labels = {}
    for metric in metrics:
        known, rows = METRICS[metric], frame.metric == metric
        own = frame[rows & frame.variant.isin(list(variants))].value.abs()
        largest = float(own.max()) if len(own) else 0.0
        if known.scale == 1 or not largest > 0 or 1 <= largest * known.scale < 1000:
            continue
        power = -3 * math.floor(math.log10(largest) / 3)
        factor = 10**power / known.scale
        rows |= frame.metric == metric + NOISE
        frame = frame.assign(**{key: frame[key].where(~rows, frame[key] * factor) for key in ("value", "low", "high")})
        name = known.label.split(" ×")[0]
        labels[known.label] = f"{name} ×10{str(power).translate(SUPERSCRIPT)}" if power else name
    return frame, labels


def relabel(table: RenderedTable, labels: dict[str, str]) -> RenderedTable:
    """The table with other labels of metrics."""

    def other(text: str) -> str:
        for old, new in labels.items():
            text = text.replace(old, new)
        return text

    rows = [(other(label), cells) for label, cells in table.rows]
    return RenderedTable([other(text) for text in table.headers], rows, [other(text) for text in table.notes])
