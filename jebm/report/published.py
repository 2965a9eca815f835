"""Published values beside ours: quoted with their source, marked in their row, never mixed with what was measured."""

from jebm.config.tables import SCORED, Published, Table
from jebm.metrics.catalogue import METRICS
from jebm.report.rendered import Cell, Rendered

MARK = "published"
NOTE = (
    f"Rows marked '{MARK}' are quoted from the source in brackets; nothing in them was measured here, and their "
    "protocols are the sources' own. An en dash: measured neither there nor here."
)


def quote(table: Rendered, spec: Table) -> None:
    """Add the table's published rows, each under the row of ours that it belongs to or else at the end, and notes."""
    for entry in spec.published:
        places = [i for i, (label, _) in enumerate(table.rows) if label == entry.variant]
        at = _after(table, places[-1]) if places else len(table.rows)
        table.rows.insert(at, (f"{entry.method} — {MARK} [{entry.source}]", _cells(entry, table, spec)))
    table.notes += [NOTE] * bool(spec.published) + list(spec.notes)


def _after(table: Rendered, place: int) -> int:
    """The place below a row and the published ones that are already under it."""
    place += 1
    while place < len(table.rows) and any(cell.published for cell in table.rows[place][1]):
        place += 1
    return place


def _cells(entry: Published, table: Rendered, spec: Table) -> list[Cell]:
    """A cell a column: columns are metrics, or the second parts of the variants' names (kind ``crossed``)."""
    crossed = spec.kind == "crossed"
    keys = table.headers[1:] if crossed else spec.columns
    measures = [spec.columns[0] if crossed else key for key in keys]
    digits = [METRICS[measure.split(":")[0] if spec.kind in SCORED else measure].digits for measure in measures]
    return [
        Cell([entry.values[key]] if key in entry.values else [], places, published=True)
        for key, places in zip(keys, digits, strict=True)
    ]
