"""Gathers the metrics of all runs of a study into one table, and summarises them for DVC."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from jebm.io.files import read_json, write_csv, write_json
from jebm.metrics.catalogue import FLOOR, HEADLINE
from jebm.metrics.records import MetricRecord, load_record
from jebm.pipeline.study import StudyPlan, Variant
from jebm.runtime.progress import say

COLUMNS = ["study", "variant", "seed", "metric", "value", "n", "protocol"]


def collect(plan: StudyPlan) -> None:
    """Write ``metrics.csv`` (a row a value), ``metrics.json`` (means and deviations), ``protocols.json``, and
    ``timings.csv``, which is no part of what two runs must agree on."""
    rows, protocols = _values(plan, _records(plan))
    write_json(plan.results / "protocols.json", protocols)
    write_json(plan.results / "metrics.json", _summary(pd.DataFrame(rows)))
    write_csv(plan.results / "timings.csv", ["variant", "seed", "metric", "value"], _timings(plan))
    write_csv(plan.results / "metrics.csv", COLUMNS, rows)
    say(f"{plan.results / 'metrics.csv'}: {len(rows)} values")


def finished(plan: StudyPlan) -> tuple[pd.DataFrame, int, int]:
    """The values of the runs that are finished so far, and how many of the study's records that is, of how many."""
    files = [*plan.floor_files(), *dict.fromkeys(path for _, path in plan.metric_files())]
    rows, _ = _values(plan, _records(plan, only_finished=True))
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})
    frame["seed"] = pd.to_numeric(frame.seed).astype("Int64")
    return frame, sum(Path(path).exists() for path in files), len(files)


def _values(plan: StudyPlan, records: Iterable[tuple[str, MetricRecord]]) -> tuple[list[dict], dict]:
    """A row a value, and all protocols."""
    rows, protocols = [], {}
    for variant, record in records:
        protocols |= record.protocols
        for value in record.values:
            if variant != FLOOR and not _belongs(value, plan.variants[variant]):
                continue
            seed = "" if record.seed is None else record.seed
            row = {"study": plan.name, "variant": variant, "seed": seed, **value}
            rows.append({key: row[key] for key in COLUMNS} | {"value": f"{value['value']:.9g}"})
    return rows, protocols


def _records(plan: StudyPlan, only_finished: bool = False) -> Iterator[tuple[str, MetricRecord]]:
    for path in plan.floor_files():
        if Path(path).exists() or not only_finished:
            yield FLOOR, load_record(path)
    loaded: dict[str, MetricRecord] = {}
    for variant, path in plan.metric_files():
        if only_finished and not Path(path).exists():
            continue
        if path not in loaded:
            loaded[path] = load_record(path)
        yield variant, loaded[path]


def _timings(plan: StudyPlan) -> list[dict]:
    """What the clock measured, and sizes, of everything trained and evaluated for each variant."""
    rows = []
    for variant, seed, kind, path in plan.record_files():
        record = read_json(path)
        for key in ("seconds", "parameters", "diverged_at", "skipped"):
            if key in record:
                rows.append({"variant": variant, "seed": seed, "metric": f"{key}_{kind}", "value": record[key]})
    for variant, record in _records(plan):
        for metric, value in record.timings.items():
            rows.append({"variant": variant, "seed": record.seed, "metric": metric, "value": f"{value:.6g}"})
    return rows


def _belongs(value: dict, variant: Variant) -> bool:
    """Whether a value of a shared record was measured on this variant's samples, or on its prior."""
    return value.get("samples", variant.samples.id) == variant.samples.id and (
        value.get("prior", variant.prior.id) == variant.prior.id
    )


def _summary(frame: pd.DataFrame) -> dict:
    frame = frame[frame.metric.isin(HEADLINE)].astype({"value": float})
    summary: dict = {}
    for (variant, metric), group in frame.groupby(["variant", "metric"], sort=True):
        entry = {"mean": _round(group.value.mean())}
        if len(group) > 1:
            entry["sd"] = _round(group.value.std(ddof=1))
        summary.setdefault(variant, {})[metric] = entry
    return summary


def _round(value: float) -> float:
    return float(f"{value:.6g}")
