"""Tables: mean ± standard deviation over seeds, with n, protocol and floor, as Markdown, CSV and LaTeX."""

import pandas as pd

from jebm.config.catalogue import TABLES
from jebm.config.components import load
from jebm.config.tables import Table
from jebm.errors import JebmError
from jebm.io.files import published, write_csv
from jebm.metrics.catalogue import FLOOR, METRICS, describe, tilted
from jebm.pipeline.study import StudyPlan
from jebm.report.published import quote
from jebm.report.rendered import Cell, Rendered, fixed, flat, latex, markdown
from jebm.runtime.progress import say

ARROWS = {-1: " ↓", 0: "", 1: " ↑"}


def load_metrics(plan: StudyPlan) -> pd.DataFrame:
    """The study's collected metrics, and what the clock measured."""
    options = {"dtype": {"seed": "Int64"}, "keep_default_na": False, "na_values": [""]}
    metrics = pd.read_csv(plan.results / "metrics.csv", **options)
    timings = pd.read_csv(plan.results / "timings.csv", **options)
    return pd.concat([metrics, timings.assign(study=plan.name, n=1, protocol="this run")], ignore_index=True)


def render(plan: StudyPlan, name: str) -> None:
    """Write a table of the study as ``.md``, ``.csv`` and ``.tex``."""
    if name not in plan.study.tables:
        raise JebmError(f"params.yaml: {plan.name}.tables: no table '{name}'; it has: {', '.join(plan.study.tables)}")
    spec = plan.study.tables[name]
    table = build_table(plan, spec, load_metrics(plan))
    path = plan.results / "tables" / name
    with published(path.with_suffix(".md")) as file:
        file.write(markdown(table, spec.caption))
    with published(path.with_suffix(".tex")) as file:
        file.write(latex(table, spec.caption))
    write_csv(path.with_suffix(".csv"), *flat(table))
    say(f"{path}.md")


def preview(plan: StudyPlan, name: str) -> str:
    """A table as far as runs are finished, as Markdown: an empty cell where there is nothing yet."""
    from jebm.report.collect import finished

    spec, (frame, done, total) = plan.study.tables[name], finished(plan)
    table = build_table(plan, spec, frame)
    table.notes.insert(0, f"A preview: {done} of {total} evaluations are finished, and the others' cells are empty.")
    return markdown(table, spec.caption)


def build_table(plan: StudyPlan, spec: Table, frame: pd.DataFrame) -> Rendered:
    """A table of the study from its metrics, with the published values that it asks for."""
    table = load(TABLES[spec.kind])(plan, spec, frame)
    quote(table, spec)
    return table


def metrics_table(plan: StudyPlan, spec: Table, frame: pd.DataFrame) -> Rendered:
    """A row a variant, a column a metric; the floor of real data, where there is one, in the notes."""
    rows = []
    for variant in spec.variants:
        rows.append((variant, [_cell(frame, variant, metric) for metric in spec.columns]))
    for column, metric in enumerate(spec.columns):
        _mark_best([cells[column] for _, cells in rows], describe(metric).better)
    headers = ["prior", *(_header(metric) for metric in spec.columns)]
    return Rendered(headers, rows, [*_notes(plan, frame, spec), *_floor(plan, frame, spec.columns)])


def by_seed_table(plan: StudyPlan, spec: Table, frame: pd.DataFrame) -> Rendered:
    """A row a seed, and for each metric a column a variant; for a positive distance also its ratio to the first."""
    headers, columns = ["seed"], []
    for metric in spec.columns:
        base = _by_seed(frame, spec.variants[0], metric)
        for variant in spec.variants:
            values = _by_seed(frame, variant, metric)
            headers.append(f"{METRICS[metric].label} {variant}{ARROWS[METRICS[metric].better]}")
            columns.append((values, METRICS[metric].digits))
            if metric in ("fd", "fid") and variant != spec.variants[0]:
                headers.append(f"{spec.variants[0]} / {variant}")
                columns.append(({seed: base[seed] / values[seed] for seed in values if seed in base}, 2))
    rows = []
    for seed in plan.seeds:
        rows.append((str(seed), [Cell([values[seed]] if seed in values else [], digits) for values, digits in columns]))
    return Rendered(headers, rows, _notes(plan, frame, spec))


def detection_table(plan: StudyPlan, spec: Table, frame: pd.DataFrame) -> Rendered:
    """A row an outlier set, a column a score of a prior. Scores without a tilt stand for the first prior only."""
    measure = spec.columns[0].split(":")[0]
    sets = list(dict.fromkeys(m.split(":")[1] for m in frame.metric if m.startswith(f"{measure}:")))
    columns = []
    for position, variant in enumerate(spec.variants):
        for column in spec.columns:
            score = column.split(":")[1]
            if tilted(score) != (position == 0):
                columns.append((variant, score))
    rows = []
    for name in sets:
        cells = [_cell(frame, variant, f"{measure}:{name}:{score}") for variant, score in columns]
        _mark_best(cells, METRICS[measure].better)
        rows.append((name, cells))
    headers = ["outliers", *(f"{score} ({variant})" for variant, score in columns)]
    notes = _notes(plan, frame, spec, [f"{measure}:{name}:{score}" for name in sets for _, score in columns])
    return Rendered(headers, rows, notes)


def keyed_table(plan: StudyPlan, spec: Table, frame: pd.DataFrame) -> Rendered:
    """A row a key of each variant, a column a metric that comes under such keys (``metric:key``)."""
    rows = []
    for variant in spec.variants:
        for key in _keys(frame[frame.variant == variant], spec.columns):
            label = key if len(spec.variants) == 1 else f"{variant}: {key}"
            rows.append((label, [_cell(frame, variant, f"{metric}:{key}") for metric in spec.columns]))
    metrics = [f"{metric}:{key}" for metric in spec.columns for key in _keys(frame, spec.columns)]
    return Rendered(["of", *(_header(metric) for metric in spec.columns)], rows, _notes(plan, frame, spec, metrics))


def matrix_table(plan: StudyPlan, spec: Table, frame: pd.DataFrame) -> Rendered:
    """A row a variant (and metric, if several), a column a key of the metric."""
    keys = _keys(frame[frame.variant.isin(spec.variants)], spec.columns)
    rows = []
    for metric in spec.columns:
        for variant in spec.variants:
            label = variant if len(spec.columns) == 1 else f"{variant}: {METRICS[metric].label}"
            rows.append((label, [_cell(frame, variant, f"{metric}:{key}") for key in keys]))
    metrics = [f"{metric}:{key}" for metric in spec.columns for key in keys]
    return Rendered(["variant", *keys], rows, _notes(plan, frame, spec, metrics))


def scores_table(plan: StudyPlan, spec: Table, frame: pd.DataFrame) -> Rendered:
    """A row an outlier set of a variant, a column a score; compared within a row, since rows are of different data."""
    measure = spec.columns[0].split(":")[0]
    scores = [column.split(":")[1] for column in spec.columns]
    rows, metrics = [], []
    for variant, name, label in _sets(spec.variants, frame, measure):
        row = [f"{measure}:{name}:{score}" for score in scores]
        cells = [_cell(frame, variant, metric) for metric in row]
        _mark_best(cells, METRICS[measure].better)
        rows.append((label, cells))
        metrics += row
    return Rendered(["outliers", *scores], rows, _notes_by_row(plan, frame, spec, metrics))


def rows_table(plan: StudyPlan, spec: Table, frame: pd.DataFrame) -> Rendered:
    """A row a variant, and a key where the metrics come under keys; a column a metric, with its interval if it has one.

    Rows may be of different data, each under its own protocol: they are not compared, and no best one is marked.
    """
    rows, metrics = [], []
    for variant in spec.variants:
        keys = _keys(frame[frame.variant == variant], spec.columns)
        for key in keys or [""]:
            row = [f"{metric}:{key}" if key else metric for metric in spec.columns]
            label = variant if len(keys) < 2 else f"{variant}: {key}"
            rows.append((label, [_with_interval(frame, variant, metric) for metric in row]))
            metrics += row
    return Rendered(["of", *(_header(m) for m in spec.columns)], rows, _notes_by_row(plan, frame, spec, metrics))


def crossed_table(plan: StudyPlan, spec: Table, frame: pd.DataFrame) -> Rendered:
    """Variants named ``<row>-<column>``: a row a first part of the name (and a score), a column a second part.

    Columns may be of different data, each variant with the one set of outliers of its own: compared within a column.
    """
    measure, scores = spec.columns[0].split(":")[0], [column.split(":")[1] for column in spec.columns]
    parts = {name: (name.rpartition("-")[0], name.rpartition("-")[2]) for name in spec.variants}
    names = {cross: name for name, cross in parts.items()}
    columns = list(dict.fromkeys(column for _, column in parts.values()))
    rows, metrics = [], []
    for row in dict.fromkeys(row for row, _ in parts.values()):
        for score in scores:
            own = {column: _scored(frame, names.get((row, column)), measure, score) for column in columns}
            cells = [_cell(frame, names[row, c], metric) if metric else Cell() for c, metric in own.items()]
            rows.append((row if len(scores) == 1 else f"{row}: {score}", cells))
            metrics += [metric for metric in own.values() if metric]
    for column in range(len(columns)):
        _mark_best([cells[column] for _, cells in rows], METRICS[measure].better)
    return Rendered(["of", *columns], rows, _notes_by_row(plan, frame, spec, metrics))


def _scored(frame: pd.DataFrame, variant: str | None, measure: str, score: str) -> str | None:
    """The metric of a variant's outliers under a score, ``measure:set:score``, if it was measured.

    Raises:
        JebmError: the variant has several sets of outliers, and one cell has room for one.
    """
    own = frame[frame.variant == variant].metric
    found = list(dict.fromkeys(m for m in own if m.startswith(f"{measure}:") and m.split(":", 2)[2] == score))
    if len(found) > 1:
        raise JebmError(f"{measure} of {variant}: {', '.join(found)} can't stand in one cell; use the kind 'scores'")
    return found[0] if found else None


def _sets(variants: list[str], frame: pd.DataFrame, measure: str) -> list[tuple[str, str, str]]:
    """(variant, outlier set, label of the row): the label says only as much as tells the rows apart."""
    found = {v: _keys(frame[frame.variant == v], [measure]) for v in variants}
    sets = {v: list(dict.fromkeys(key.split(":")[0] for key in keys)) for v, keys in found.items()}
    rows = []
    for variant, names in sets.items():
        for name in names:
            label = name if len(variants) == 1 else variant if len(names) == 1 else f"{variant}: {name}"
            rows.append((variant, name, label))
    return rows


def _with_interval(frame: pd.DataFrame, variant: str, metric: str) -> Cell:
    """The cell of a metric, with the means over seeds of ``<metric>_low`` and ``<metric>_high`` where there are any."""
    cell, (name, *key) = _cell(frame, variant, metric), metric.split(":", 1)
    if f"{name}_low" in METRICS:
        low, high = (_cell(frame, variant, ":".join([name + end, *key])) for end in ("_low", "_high"))
        cell.interval = (low.mean, high.mean) if low.values and high.values else None
    return cell


def grid_table(plan: StudyPlan, spec: Table, frame: pd.DataFrame) -> Rendered:
    """A metric under keys ``row/column``: a row a first part of the key (of each variant and metric), a column a
    second part."""
    keys = _keys(frame[frame.variant.isin(spec.variants)], spec.columns)
    columns = list(dict.fromkeys(key.rpartition("/")[2] for key in keys))
    rows = []
    for metric in spec.columns:
        for variant in spec.variants:
            own = _keys(frame[frame.variant == variant], [metric])
            for row in dict.fromkeys(key.rpartition("/")[0] for key in own):
                parts = [variant] * (len(spec.variants) > 1) + [METRICS[metric].label] * (len(spec.columns) > 1)
                cells = [_cell(frame, variant, f"{metric}:{row}/{column}") for column in columns]
                rows.append((": ".join([*parts, row]), cells))
    metrics = [f"{metric}:{key}" for metric in spec.columns for key in keys]
    return Rendered(["of", *columns], rows, _notes(plan, frame, spec, metrics))


def _keys(frame: pd.DataFrame, metrics: list[str]) -> list[str]:
    """The keys under which any of the metrics comes, in the order in which they were recorded."""
    parts = [name.split(":", 1) for name in frame.metric if ":" in name]
    return list(dict.fromkeys(part[1] for part in parts if part[0] in metrics))


def _cell(frame: pd.DataFrame, variant: str, metric: str) -> Cell:
    chosen = frame[(frame.variant == variant) & (frame.metric == metric)]
    if chosen.protocol.nunique() > 1:
        raise JebmError(
            f"{metric} of {variant} was measured under {chosen.protocol.nunique()} protocols "
            f"({', '.join(chosen.protocol.unique())}); they can't be averaged"
        )
    known = describe(metric)
    return Cell([value * known.scale for value in chosen.value], known.digits)


def _by_seed(frame: pd.DataFrame, variant: str, metric: str) -> dict[int, float]:
    chosen = frame[(frame.variant == variant) & (frame.metric == metric)]
    return dict(zip(chosen.seed.astype(int), chosen.value * describe(metric).scale, strict=True))


def _mark_best(cells: list[Cell], better: int) -> None:
    """Bold the best mean, and every other one that prints the same."""
    means = [cell.mean for cell in cells if cell.values]
    if not better or len(means) < 2:
        return
    best = max(means) if better > 0 else min(means)
    for cell in cells:
        cell.best = bool(cell.values) and fixed(cell.mean, cell.digits) == fixed(best, cell.digits)


def _header(metric: str) -> str:
    return f"{METRICS[metric].label}{ARROWS[METRICS[metric].better]}"


def _spread(plan: StudyPlan) -> str:
    seeds = ", ".join(map(str, plan.seeds))
    if len(plan.seeds) == 1:
        return f"Seed {seeds} only (n = 1)."
    return f"Mean ± standard deviation over seeds {seeds} (n = {len(plan.seeds)})."


def _notes(plan: StudyPlan, frame: pd.DataFrame, spec: Table, metrics: list[str] | None = None) -> list[str]:
    """Seeds; for each metric what it is, its sample count and its protocol. One protocol a column, or none at all."""
    notes = [] if spec.kind == "by-seed" else [_spread(plan)]
    chosen = frame[frame.variant.isin(spec.variants) & frame.metric.isin(metrics or spec.columns)]
    for metric, group in chosen.groupby(chosen.metric.str.split(":").str[0], sort=False):
        protocols, counts = sorted(group.protocol.unique()), sorted(group.n.unique())
        if len(protocols) > 1:
            raise JebmError(
                f"{metric}: protocols {' and '.join(protocols)} in one column can't be compared; "
                f"{plan.results / 'protocols.json'} says how they differ"
            )
        known = METRICS[metric]
        count = " or ".join(map(str, counts))
        notes.append(f"{known.label}: {known.about}; sample count {count}, protocol {protocols[0]}.")
    return notes


def _notes_by_row(plan: StudyPlan, frame: pd.DataFrame, spec: Table, metrics: list[str]) -> list[str]:
    """As :func:`_notes`, for rows of different data: the protocol of each variant, one a metric."""
    notes = [_spread(plan)]
    chosen = frame[frame.variant.isin(spec.variants) & frame.metric.isin(metrics)]
    for name, group in chosen.groupby(chosen.metric.str.split(":").str[0], sort=False):
        of_protocol: dict[str, list[str]] = {}
        for variant, rows in group.groupby("variant", sort=False):
            if rows.protocol.nunique() > 1:
                raise JebmError(f"{name} of {variant}: protocols {', '.join(rows.protocol.unique())} in one row")
            of_protocol.setdefault(rows.protocol.iloc[0], []).append(variant)
        protocols = "; ".join(f"{protocol} ({', '.join(variants)})" for protocol, variants in of_protocol.items())
        counts = " or ".join(map(str, sorted(group.n.unique())))
        notes.append(f"{METRICS[name].label}: {METRICS[name].about}; sample count {counts}, protocol {protocols}.")
    if spec.kind == "rows" and any(f"{column}_low" in METRICS for column in spec.columns):
        notes.append("In brackets the 95 % interval over images; its ends are means over seeds.")
    return notes


def _floor(plan: StudyPlan, frame: pd.DataFrame, metrics: list[str]) -> list[str]:
    floor = frame[(frame.variant == FLOOR) & frame.metric.isin(metrics)]
    reference = next(iter(plan.variants.values())).params.evaluate_samples.reference
    images, against = ("test", "training") if reference == "train" else ("training", "held-out")
    return [
        f"{METRICS[row.metric].label} of the {row.n} {images} images themselves against the same {against} images "
        f"(floor): {fixed(row.value * METRICS[row.metric].scale, METRICS[row.metric].digits)}."
        for row in floor.itertuples()
    ]
