"""Collects the metrics of all runs of a study in one table, and summarises them for DVC."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pandas as pd

from jebm.io.files import read_json, write_csv, write_json
from jebm.metrics.catalogue import FLOOR, METRICS
from jebm.metrics.records import MetricRecord, load_record
from jebm.pipeline.study import StudyPlan
from jebm.report.differences import differences
from jebm.report.frame import COLUMNS, tidy, values
from jebm.runtime.progress import log

TRAINING = "training"
"""The protocol of facts from the records of training."""


def collect(plan: StudyPlan) -> None:
    """Write ``metrics.csv`` (one row per value), ``metrics.json`` (the headline numbers, for DVC) and
    ``protocols.json``. What the clock measured is left out: two runs on one machine write the same bytes."""
    rows, protocols = _values(plan, chain(_records(plan), differences(plan)))
    facts = _training_facts(plan)
    if facts:
        protocols[TRAINING] = {"about": "sizes of what was trained, and what happened in training, from its record"}
    write_json(plan.results / "protocols.json", protocols)
    write_json(plan.results / "metrics.json", headline(plan, tidy(rows)))
    write_csv(plan.results / "metrics.csv", COLUMNS, rows + facts)
    log(f"{plan.results / 'metrics.csv'}: {len(rows + facts)} values")


def finished(plan: StudyPlan) -> tuple[pd.DataFrame, int, int]:
    """The values of all finished runs, the number of the study's records that they come from, and the number of all its
    records."""
    files = [*plan.floor_files(), *dict.fromkeys(path for _, path in plan.metric_files())]
    rows, _ = _values(plan, chain(_records(plan, only_finished=True), differences(plan, only_finished=True)))
    return tidy(rows), sum(Path(path).exists() for path in files), len(files)


def _values(plan: StudyPlan, records: Iterable[tuple[str, MetricRecord]]) -> tuple[list[dict], dict]:
    """One row per value, and all protocols."""
    rows, protocols = [], {}
    for variant, record in records:
        protocols |= record.protocols
        for value in record.values:
            seed = "" if record.seed is None else record.seed
            row = {"study": plan.name, "variant": variant, "seed": seed, **value}
            row |= {key: f"{value[key]:.9g}" for key in ("value", "low", "high") if key in value}
            rows.append({key: row.get(key, "") for key in COLUMNS})
    return rows, protocols


def _records(plan: StudyPlan, only_finished: bool = False) -> Iterator[tuple[str, MetricRecord]]:
    for path in plan.floor_files():
        if Path(path).exists() or not only_finished:
            yield FLOOR, load_record(path)
    for variant, path in plan.metric_files():
        if Path(path).exists() or not only_finished:
            yield variant, load_record(path)


def _training_facts(plan: StudyPlan) -> list[dict]:
    """Sizes of everything that was trained, and what happened in training, for each variant."""
    rows = []
    for variant, seed, kind, path in plan.record_files():
        record = read_json(path)
        for key in ("parameters", "diverged_at", "skipped", "selected_step", "validation_gain"):
            if key in record:
                row = {"study": plan.name, "variant": variant, "seed": seed, "metric": f"{key}_{kind}"}
                rows.append(row | {"value": f"{record[key]:.9g}", "n": 1, "protocol": TRAINING})
    return [{key: row.get(key, "") for key in COLUMNS} for row in rows]


def headline(plan: StudyPlan, frame: pd.DataFrame) -> dict[str, float]:
    """The headline numbers of the study: means over seeds, in the units and with the digits of the tables."""
    numbers = {}
    for name, spec in plan.study.headline.items():
        own = values(frame[frame.variant.isin(spec.variants)], spec.metric, set=spec.set, score=spec.score)
        if len(own):  # diverged runs have no values
            known = METRICS[spec.metric]
            numbers[name] = round(float(own.value.mean()) * known.scale, known.digits)
    return numbers
