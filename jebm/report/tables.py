"""Tables: pivots of a study's metrics, mean ± standard deviation over seeds, with notes on how they were measured."""

from itertools import product
from pathlib import Path

import pandas as pd

from jebm.config.files import current_params_file
from jebm.config.messages import suggestion
from jebm.config.tables import FIELDS, Literature, Table, parameter
from jebm.config.types import DIMENSIONS
from jebm.errors import JebmError
from jebm.io.files import atomic_write, write_csv
from jebm.metrics.catalogue import METRICS, NOISE
from jebm.pipeline.study import StudyPlan
from jebm.report.frame import load_metrics
from jebm.report.soundness import MARK as DOUBT
from jebm.report.soundness import doubts, errors_of_log_z, fit_scales, mark_best, notes_on, relabel
from jebm.report.table_format import Cell, RenderedTable, csv_rows, html, latex, markdown
from jebm.report.table_notes import floor_notes, notes
from jebm.runtime.progress import log

ARROWS = {-1: " ↓", 0: "", 1: " ↑"}
MARK = "published"
LITERATURE = (
    f"Rows marked '{MARK}' are quoted from the source in brackets; nothing in them was measured here, and their "
    "protocols are the sources' own. An en dash: measured neither there nor here."
)
Key = tuple[str, ...]
"""The values of the fields that define a row or a column."""


def render(plan: StudyPlan, name: str) -> None:
    """Write a table of the study as ``.md``, ``.csv`` and ``.tex``, and as a page of the report beside its record."""
    if name not in plan.study.tables:
        raise JebmError(
            f"{current_params_file()}: {plan.name}.tables: no table '{name}'; it has: {', '.join(plan.study.tables)}"
        )
    spec, frame = plan.study.tables[name], load_metrics(plan)
    for field, names in spec.where.items():
        measured = sorted(set(frame[frame.metric.isin(spec.metrics)][field]) - {""})
        for value in names:
            if measured and value not in measured:
                where = f"{plan.name}.tables.{name}.where.{field}"
                raise JebmError(
                    f"{current_params_file()}: {where}: '{value}' was not measured;{suggestion(value, measured)}"
                )
    table = build_table(plan, spec, frame)
    path = plan.results / "tables" / name
    with atomic_write(path.with_suffix(".md")) as file:
        file.write(markdown(table, spec.caption))
    with atomic_write(path.with_suffix(".tex")) as file:
        file.write(latex(table, spec.caption))
    with atomic_write(Path(plan.page(name))) as file:
        file.write(html(table, spec.caption))
    write_csv(path.with_suffix(".csv"), *csv_rows(table))
    log(f"{path}.md")


def preview(plan: StudyPlan, name: str) -> str:
    """A table of the runs that are finished, as Markdown; the other cells are empty."""
    from jebm.report.collect import finished

    spec, (frame, done, total) = plan.study.tables[name], finished(plan)
    table = build_table(plan, spec, frame)
    table.notes.insert(0, f"A preview: {done} of {total} evaluations are finished, and the others' cells are empty.")
    return markdown(table, spec.caption)


def build_table(plan: StudyPlan, spec: Table, frame: pd.DataFrame) -> RenderedTable:
    """A table of the study from its metrics, with the published values that it asks for."""
    frame, labels = fit_scales(frame, () if spec.literature else spec.metrics, spec.variants)
    chosen, doubtful = _chosen(plan, spec, frame), doubts(frame, spec.metrics)
    rows, columns = (_keys(plan, spec, fields, chosen) for fields in (spec.rows, spec.columns))
    groups = dict(list(chosen.groupby([*spec.rows, *spec.columns], sort=False)))
    cells = {(row, column): _cell(spec, row + column, groups.get(row + column)) for row in rows for column in columns}
    shown = _mark_doubts(spec, cells, doubtful)
    lines, bold = (
        {
            "rows": [[(row, column) for column in columns] for row in rows],
            "columns": [[(row, column) for row in rows] for column in columns],
            "nothing": [],
        },
        False,
    )
    for line, metric in product(lines[spec.compare], spec.metrics):
        compared = [key for key in line if _metric(spec, sum(key, ())) == metric]
        _one_protocol(plan, spec, metric, [groups[sum(key, ())] for key in compared if sum(key, ()) in groups])
        if spec.best:
            candidates = [cells[key] for key in compared if _is_candidate(plan, spec, key)]
            bold |= mark_best(candidates, METRICS[metric].better)
    body = [[cells[row, column] for column in columns] for row in rows]
    headers = [_header(spec, column) for column in columns]
    label = spec.label or _label_header(spec)
    labelled = list(zip(_labels(spec, rows), body, strict=True))
    table = RenderedTable([label, *headers], labelled, notes(spec, chosen, plan))
    table.notes += errors_of_log_z(frame, spec.variants, spec.metrics) + notes_on(shown, bold)
    if spec.compare == "columns":
        table.notes += floor_notes(plan, frame, spec.metrics)
    for entry in spec.literature:
        _quote(table, entry, spec, columns)
    table.notes += [LITERATURE] * bool(spec.literature) + list(spec.notes)
    return relabel(table, labels)


def _chosen(plan: StudyPlan, spec: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """The values that the table shows, with their noise over sample sets (NaN if there is one set), and with the
    parameters of their variants as further columns of text."""
    frame = _with_noise(frame[frame.variant.isin(spec.variants)])
    frame = frame[frame.metric.isin(spec.metrics)]
    frame, measured = frame.assign(seed=frame.seed.astype(str)), frame
    named = [field for field in (*spec.rows, *spec.columns) if field in DIMENSIONS]
    for field in DIMENSIONS:
        if field in spec.where:
            frame = frame[frame[field].isin(spec.where[field])]
        elif field not in named:
            frame = frame[frame[field] == ""]
    for axis in (spec.rows, spec.columns):
        # The acceptance of an evaluated chain has a set (its label); that of the sampler has none, so it gets no row.
        own = [field for field in axis if field in DIMENSIONS]
        frame = frame[(frame[own] != "").any(axis=1)] if own else frame
    if spec.scores:
        shown = [score in spec.scores.get(v, ()) for v, score in zip(frame.variant, frame.score, strict=True)]
        frame = frame[pd.Series(shown, frame.index, dtype=bool)]
    for metric in set(measured.metric) - set(frame.metric):
        dimensions = [field for field in DIMENSIONS if (measured[measured.metric == metric][field] != "").any()]
        raise JebmError(f"{metric}: no value fits rows, columns and where of the table; it comes by {dimensions}")
    paths = [field for field in (*spec.rows, *spec.columns) if field not in FIELDS]
    return frame.assign(**{path: [parameter(plan.variants[v].params, path) for v in frame.variant] for path in paths})


def _with_noise(frame: pd.DataFrame) -> pd.DataFrame:
    """Add a column ``noise``: the standard deviation of each distance over the sample sets of its seed."""
    keys = ["variant", "seed", "metric", *DIMENSIONS]
    noise = frame[frame.metric.str.endswith(NOISE)].rename(columns={"value": "noise"})
    noise = noise.assign(metric=noise.metric.str.removesuffix(NOISE))
    return frame.merge(noise[[*keys, "noise"]], "left", on=keys)


def _keys(plan: StudyPlan, spec: Table, fields: list[str], chosen: pd.DataFrame) -> list[Key]:
    """The rows or the columns, in order: all that the table names, or those that were measured if it names none."""
    named = {"seed": [str(seed) for seed in plan.seeds], "metric": spec.metrics, **spec.where}
    if spec.scores:
        named["score"] = list(dict.fromkeys(score for scores in spec.scores.values() for score in scores))
    if any(field in DIMENSIONS and field not in named for field in fields):
        keys = list(chosen[fields].itertuples(index=False, name=None))
        for variant in spec.variants if "variant" in fields else ():
            if variant not in set(chosen.variant):  # no value has been measured yet
                keys.append(tuple(variant if field == "variant" else "" for field in fields))
    else:
        others = [field for field in fields if field in named]
        keys = []
        for variant, values in product(spec.variants, product(*(named[field] for field in others))):
            known = {"variant": variant, **dict(zip(others, values, strict=True))}
            if not spec.scores or known.get("score") in (None, *spec.scores.get(variant, ())):
                keys.append(tuple(known.get(f) or parameter(plan.variants[variant].params, f) for f in fields))
    named["variant"] = spec.variants
    order = [named.get(field) or list(dict.fromkeys(key[i] for key in keys)) for i, field in enumerate(fields)]
    return sorted(dict.fromkeys(keys), key=lambda key: [known.index(v) for known, v in zip(order, key, strict=True)])


def _metric(spec: Table, key: Key) -> str:
    """The metric of a cell, from the key of its row and column."""
    return dict(zip([*spec.rows, *spec.columns], key, strict=True)).get("metric", spec.metrics[0])


def _cell(spec: Table, key: Key, group: pd.DataFrame | None) -> Cell:
    known, where = METRICS[_metric(spec, key)], ", ".join(filter(None, key))
    if group is None:
        return Cell(digits=known.digits)
    if group.seed.duplicated().any():
        raise JebmError(f"{where}: several values of a seed in one cell; rows or columns must tell them apart")
    protocols = list(dict.fromkeys(group.protocol))
    if len(protocols) > 1:
        raise JebmError(
            f"{where}: was measured under {len(protocols)} protocols ({', '.join(protocols)}); they can't be averaged"
        )
    cell = Cell([value * known.scale for value in group.value], known.digits, seeds=list(group.seed))
    if "seed" in [*spec.rows, *spec.columns] and group.noise.notna().all():
        cell.noise = group.noise.mean() * known.scale
    if spec.intervals and group.low.notna().all():
        cell.interval = (group.low.mean() * known.scale, group.high.mean() * known.scale)
    return cell


def _one_protocol(plan: StudyPlan, spec: Table, metric: str, groups: list[pd.DataFrame]) -> None:
    protocols = sorted({group.protocol.iloc[0] for group in groups})
    if len(protocols) > 1:
        raise JebmError(
            f"{metric}: protocols {' and '.join(protocols)} in one {spec.compare.removesuffix('s')} can't be compared; "
            f"{plan.results / 'protocols.json'} says how they differ"
        )


def _is_candidate(plan: StudyPlan, spec: Table, key: tuple[Key, Key]) -> bool:
    """Whether the cell of a row and a column may be the best of those that it is compared with."""
    variant = dict(zip([*spec.rows, *spec.columns], sum(key, ()), strict=True)).get("variant")
    return variant is None or plan.variants[variant].params.prior.traits.candidate


def _mark_doubts(spec: Table, cells: dict[tuple[Key, Key], Cell], doubtful: dict) -> dict[tuple[str, str], str]:
    """Mark the cells of doubtful values; returns those doubts that concern the table."""
    shown = {}
    for key, cell in cells.items():
        of = dict(zip([*spec.rows, *spec.columns], sum(key, ()), strict=True))
        variant = of.get("variant", spec.variants[0] if len(spec.variants) == 1 else "")
        known = variant, of.get("metric", spec.metrics[0])
        if cell.values and known in doubtful:
            cell.doubt, shown[known] = DOUBT, doubtful[known]
    return shown


def _label_header(spec: Table) -> str:
    """The header of the column of row labels: the fields that the labels name, in their order."""
    several = {"variant": len(spec.variants) > 1, "metric": len(spec.metrics) > 1}
    first = [
        word for field, word in (("variant", "prior"), ("metric", "metric")) if field in spec.rows and several[field]
    ]
    rest = "/".join(field for field in spec.rows if field not in several)
    return ": ".join(filter(None, [*first, rest])) or "/".join(spec.rows)


def _labels(spec: Table, rows: list[Key]) -> list[str]:
    """Labels of the rows: variant, metric, and what distinguishes it further.

    A variant or a metric is left out if the table has only one; a set, score, layer or step is left out if its variant
    has only one row.
    """
    alone = {"variant": len(spec.variants) == 1, "metric": len(spec.metrics) == 1}
    variants = [dict(zip(spec.rows, row, strict=True)).get("variant", "") for row in rows]
    labels = []
    for row in rows:
        key = {field: value for field, value in zip(spec.rows, row, strict=True) if not alone.get(field)}
        first = [key.pop("variant")] if "variant" in key else []
        first += [METRICS[key.pop("metric")].label] if "metric" in key else []
        single = first and variants.count(first[0]) == 1
        rest = [] if single else [value for field, value in key.items() if value]
        labels.append(": ".join([*first, "/".join(rest)] if rest else first) or "/".join(row))
    return labels


def _header(spec: Table, column: Key) -> str:
    key = dict(zip(spec.columns, column, strict=True))
    metric, variant = key.pop("metric", None), key.pop("variant", "")
    if metric:
        text = " ".join([METRICS[metric].label, *filter(None, [variant, *key.values()])])
        return text + ARROWS[METRICS[metric].better]
    rest = "/".join(filter(None, key.values()))
    return f"{rest} ({variant})" if rest and variant else rest or variant


def _quote(table: RenderedTable, entry: Literature, spec: Table, columns: list[Key]) -> None:
    """Insert a row of published values below the row of ours that it belongs to, or else at the end."""
    cells = []
    for (column,) in columns:
        metric = column if spec.columns == ["metric"] else spec.metrics[0]
        values = [entry.values[column]] if column in entry.values else []
        cells.append(Cell(values, METRICS[metric].digits, quoted=True))
    places = [i for i, (label, _) in enumerate(table.rows) if label == entry.variant]
    at = places[-1] + 1 if places else len(table.rows)
    while places and at < len(table.rows) and any(cell.quoted for cell in table.rows[at][1]):
        at += 1  # below the published rows that are already there
    table.rows.insert(at, (f"{entry.method} — {MARK} [{entry.source}]", cells))
