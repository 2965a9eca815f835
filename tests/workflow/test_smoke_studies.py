"""Each image study in smoke size: from synthetic archives in the real formats through Snakemake to tables and figures.

The blocks are those of params.yaml with fewer and smaller of everything (workflow/smoke.py); the numbers mean nothing.
"""

import csv
import os
import re
import resource
from pathlib import Path

import pytest
from matplotlib.image import imread
from smoke import NEEDS, NVAE, labelled, prepare
from workspace import raw_params

from jebm.config.read import read_params
from jebm.metrics.catalogue import BOUNDS, METRICS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SECONDS = float(os.environ.get("JEBM_SMOKE_SECONDS", "240"))
"""CPU seconds that a study may take, a deep one three times as many: two minutes of two cores. It is not time by the
clock, which depends on what else the machine does."""


@pytest.fixture(scope="module", params=NEEDS)
def finished(request, tmp_path_factory, new_copy):
    """A copy of the project in which one study has run to the end on two cores."""
    space = new_copy(tmp_path_factory.mktemp(request.param))
    space.study = request.param
    prepare(space, request.param)
    space.environment["COLUMNS"] = "1000"  # tables are not continued below
    space.before = space.run("jebm", "preview", request.param).stdout
    started = used_by_children()
    space.run("snakemake", "--cores", "2", request.param)
    space.seconds = used_by_children() - started
    space.block = space.params()[request.param]
    space.tables = read_params(space.folder / "params.yaml").studies[request.param].tables
    return space


def used_by_children():
    """CPU seconds of all processes that this one started, directly or not, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(space, name):
    """Label → cells of a rendered table, and its headers."""
    return parsed(space.read(f"results/{space.study}/tables/{name}.md"))


def parsed(text):
    lines = [line for line in text.splitlines() if line[:1] == "|"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    cells: dict[str, list[str]] = {}
    for row in rows[2:]:  # a table that is wider than the terminal goes on below, with its header and all rows
        if row[0] != rows[0][0] and not set(row[0]) <= set(":-"):
            cells.setdefault(row[0], []).extend(row[1:])
    return rows[0] if rows else [], cells


def test_study_goes_from_archives_to_results_in_time(finished):
    limit = SECONDS * (3 if finished.study.removesuffix("_scratch") in NVAE else 1)
    assert finished.seconds < limit, f"{finished.study}: {finished.seconds:.0f} s"


def test_every_row_of_ours_was_measured_and_no_published_row_was(finished):
    """A number, with its deviation where there are seeds for one; published values to the digit; else an empty cell."""
    # Brackets hold an interval over images; † marks few effective draws, as tiny runs have.
    number = r"\**-?\d+(\.\d+)?( ± \d+(\.\d+)?)?\**( \[-?\d+\.\d+, -?\d+\.\d+\])?( †)?"
    for name, spec in finished.tables.items():
        headers, rows = table(finished, name)
        published = {f"{entry.method} — published [{entry.source}]": entry.values for entry in spec.literature}
        assert set(published) <= set(rows)
        for label, cells in rows.items():
            if label not in published and cells[0] == "–":
                named = "metric" in spec.rows and len(spec.metrics) > 1
                metric = label.rpartition(": ")[2] if named else METRICS[spec.metrics[0]].label
                bounds = {METRICS[bound].label for bound in (*BOUNDS, "iw_bound_difference")}
                assert metric in bounds  # a tiny run knows no log Z
            elif label not in published:
                assert re.fullmatch(number, cells[0]), (name, label, cells)
                if "seed" not in [*spec.rows, *spec.columns]:
                    assert ("±" in cells[0]) == (len(finished.block["seeds"]) > 1)
            if label not in published:
                continue
            keys = spec.metrics if spec.columns == ["metric"] else headers[1:]
            for key, cell in zip(keys, cells, strict=True):
                assert cell == "–" if key not in published[label] else float(cell) == published[label][key]


def test_before_any_run_a_preview_has_published_values_and_empty_cells(finished):
    tables = finished.before.split(f"results/{finished.study}/tables/")[1:]
    assert len(tables) == len(finished.block["tables"])
    for text, spec in zip(tables, finished.tables.values(), strict=True):
        assert "A preview: 0 of " in text
        for label, cells in parsed(text)[1].items():
            published = label.endswith("]")
            assert any(cell != "–" for cell in cells) == published, (label, cells)
        assert sum(label.endswith("]") for label in parsed(text)[1]) == len(spec.literature)


def test_tables_come_in_three_formats_that_agree(finished):
    for name in finished.block["tables"]:
        _, rows = table(finished, name)
        with open(finished.folder / f"results/{finished.study}/tables/{name}.csv", newline="") as file:
            assert [row[0] for row in csv.reader(file)][1:] == list(rows)
        tex = finished.read(f"results/{finished.study}/tables/{name}.tex")
        assert tex.count(r"\\") == len(rows) + 1


def test_figures_show_something(finished):
    for name in finished.block["figures"]:
        image = imread(finished.folder / f"results/{finished.study}/figures/{name}.png")
        assert min(image.shape[:2]) > 100
        assert image[..., :3].std() > 0.01


def test_second_run_has_nothing_to_do(finished):
    again = finished.run("snakemake", "--cores", "2", finished.study)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_smoke_size_leaves_out_no_variant_table_or_figure(finished):
    real = raw_params(ROOT)[finished.study]
    assert list(finished.block["variants"]) == list(real["variants"])
    assert finished.block["tables"] == labelled(real["tables"])
    assert finished.block["figures"] == real["figures"]
