"""Published values: beside ours, marked, with their source, and no candidate for the best of a column."""

import pandas as pd
import pytest
from toy import params

from jebm.config.read import parse_params
from jebm.config.tables import Table
from jebm.errors import ParamsError
from jebm.metrics.records import MetricRecord
from jebm.pipeline.study import make_plan
from jebm.report.rendered import flat, latex, markdown
from jebm.report.tables import build_table, preview


def frame(*rows):
    """Rows of (variant, seed, metric, value) or with n and protocol."""
    full = [(*row, 500, "p@1")[:6] if len(row) == 4 else row for row in rows]
    table = pd.DataFrame(full, columns=["variant", "seed", "metric", "value", "n", "protocol"])
    return table.astype({"seed": "Int64"})


def cells(table):
    return {label: [cell.text("*{}*") for cell in row] for label, row in table.rows}


LEBM = {"method": "LEBM", "source": "Cui et al., ICCV 2023", "values": {"fd": 0.5}}
TWIN = {"method": "twin", "source": "arXiv 1", "values": {"elbo": -3.0}, "variant": "gaussian"}
TABLE = {"kind": "metrics", "variants": ["gaussian", "joint"], "columns": ["fd", "elbo"]}
CROSSED = {"kind": "crossed", "variants": ["ours-1", "ours-4", "paper-1"], "columns": ["auprc:elbo"]}


def plan(**table):
    return make_plan(parse_params(params({"toy/tables": {"main": {**TABLE, **table}}})))["toy"]


def built(rows, **table):
    own = plan(**table)
    return build_table(own, own.study.tables["main"], frame(*rows))


FD = [("gaussian", 0, "fd", 4.0), ("joint", 0, "fd", 1.0), ("joint", 1, "fd", 3.0)]


def test_published_rows_stand_beside_ours_with_method_and_source():
    found = cells(built(FD, published=[LEBM, TWIN]))
    assert list(found) == ["gaussian", "twin — published [arXiv 1]", "joint",
                           "LEBM — published [Cui et al., ICCV 2023]"]  # fmt: skip
    assert found["twin — published [arXiv 1]"] == ["–", "-3.00"]
    assert found["LEBM — published [Cui et al., ICCV 2023]"] == ["0.50", "–"]


def test_published_value_is_never_marked_as_the_best_and_takes_nobody_the_mark():
    found = cells(built(FD, published=[LEBM]))
    assert found["joint"] == ["*2.00 ± 1.41*", "–"]


def test_several_published_rows_under_one_of_ours_keep_their_order():
    found = built(FD, published=[TWIN, {**TWIN, "method": "second"}, LEBM])
    assert [label.split(" — ")[0] for label, _ in found.rows] == ["gaussian", "twin", "second", "joint", "LEBM"]


def test_table_says_that_published_values_were_not_measured_and_prints_its_own_notes():
    notes = built(FD, published=[LEBM], notes=["FID of the papers: legacy."]).notes
    assert "nothing in them was measured here" in notes[-2]
    assert notes[-1] == "FID of the papers: legacy."
    assert not any("published" in note for note in built(FD).notes)


def test_rows_of_protocols_of_their_own_have_published_ones_beside_them():
    rows = [("gaussian", 0, "fd", 4.0, 50, "p@1"), ("joint", 0, "fd", 1.0, 49, "p@2")]
    found = built(rows, kind="rows", columns=["fd"], published=[{**LEBM, "variant": "gaussian"}])
    assert [*cells(found).values()] == [["4.00"], ["0.50"], ["1.00"]]


def test_csv_counts_no_seeds_of_a_published_value():
    columns, rows = flat(built(FD, published=[LEBM]))
    assert columns[:4] == ["prior", "FD mean", "FD sd", "FD n"]
    assert list(rows[-1].values()) == ["LEBM — published [Cui et al., ICCV 2023]", "0.5", "", "", "", "", ""]
    assert rows[1]["FD n"] == 2


def test_markdown_and_latex_mark_the_row():
    table = built(FD, published=[LEBM])
    assert "| LEBM — published [Cui et al., ICCV 2023] | 0.50            | –" in markdown(table, "")
    assert r"LEBM — published [Cui et al., ICCV 2023] & 0.50 & -- \\" in latex(table, "")


def complaint(**table):
    with pytest.raises(ParamsError) as error:
        plan(**table)
    return str(error.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"values": {"fid": 1.0}}, "tables.main.published.0.values.fid: is no column; did you mean 'fd'?"),
        ({"variant": "join"}, "tables.main.published.0.variant: 'join' is no row; did you mean 'joint'?"),
        ({"source": ""}, "tables.main.published.0.source"),
        ({"values": {"fd": float("nan")}}, "tables.main.published.0.values.fd"),
        ({"values": {}}, "tables.main.published.0.values"),
    ],
)
def test_published_value_needs_a_source_and_a_place(entry, message):
    assert message in complaint(published=[{**LEBM, **entry}])


def test_source_may_not_be_left_out():
    entry = {key: value for key, value in LEBM.items() if key != "source"}
    assert "toy.tables.main.published.0.source: is required, but missing" in complaint(published=[entry])


def test_kinds_without_rows_of_methods_have_no_published_values():
    assert "tables.main.published: a table of the kind 'by-seed' has none" in complaint(
        kind="by-seed", published=[LEBM]
    )


# Rows and columns by the names of variants ---------------------------------------------------------------------------

SCORES = [
    ("ours-1", 0, "auprc:held-out:elbo", 0.2, 100, "p@1"), ("ours-1", 1, "auprc:held-out:elbo", 0.4, 100, "p@1"),
    ("ours-4", 0, "auprc:held-out:elbo", 0.9, 90, "p@2"), ("paper-1", 0, "auprc:held-out:elbo", 0.35, 100, "p@1"),
    ("paper-1", 0, "auprc:held-out:elbo+f", 0.1, 100, "p@1"),
]  # fmt: skip


def crossed(**settings):
    spec = Table.model_validate({**CROSSED, **settings})
    return build_table(make_plan(parse_params(params()))["toy"], spec, frame(*SCORES))


def test_crossed_table_has_a_row_a_first_part_and_a_column_a_second_part():
    published = [{"method": "LEBM", "source": "s", "values": {"4": 0.63}}]
    found = crossed(published=published)
    assert found.headers == ["of", "1", "4"]
    assert cells(found) == {"ours": ["0.300 ± 0.141", "0.900"], "paper": ["*0.350*", "–"],
                            "LEBM — published [s]": ["–", "0.630"]}  # fmt: skip
    assert "p@1 (ours-1, paper-1); p@2 (ours-4)" in " ".join(found.notes)


def test_crossed_table_has_a_row_a_score():
    found = crossed(columns=["auprc:elbo", "auprc:elbo+f"])
    assert list(cells(found)) == ["ours: elbo", "ours: elbo+f", "paper: elbo", "paper: elbo+f"]
    assert cells(found)["paper: elbo+f"] == ["0.100", "–"]


def test_crossed_table_needs_names_of_two_parts():
    with pytest.raises(ValueError, match="must be <row>-<column>"):
        Table.model_validate({**CROSSED, "variants": ["ours"]})


# What is finished so far ---------------------------------------------------------------------------------------------


def test_preview_of_a_study_without_runs_has_published_values_and_empty_cells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = preview(plan(published=[LEBM]), "main")
    assert "| gaussian                                 | –      | –        |" in text
    assert "| LEBM — published [Cui et al., ICCV 2023] | 0.50   | –        |" in text
    assert "0 of 11 evaluations are finished" in text
    assert not list(tmp_path.iterdir())


def test_preview_shows_what_is_finished(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = plan(published=[LEBM])
    record, variant = MetricRecord(0), own.variants["joint"]
    record.add("fd", 7.0, 100, record.protocol("fd", {"a": 1}))
    record.save(variant.sample_metrics.run_folder(0) / "metrics.json")
    text = preview(own, "main")
    assert "1 of 11 evaluations are finished" in text
    assert "| joint                                    | 7.00   | –        |" in text
