"""Values of the literature: beside ours, marked, with their source, and no candidate for the best of a column."""

import pytest
from measured import at_seeds, frame
from toy import params

from jebm.config.read import parse_params
from jebm.config.tables import Table
from jebm.errors import ParamsError
from jebm.metrics.records import MetricRecord
from jebm.pipeline.study import make_plan
from jebm.report.table_format import csv_rows, latex, markdown
from jebm.report.tables import build_table, preview


def cells(table):
    return {label: [cell.text("*{}*") for cell in row] for label, row in table.rows}


LEBM = {"method": "LEBM", "source": "Cui et al., ICCV 2023", "values": {"fd": 0.5}}
TWIN = {"method": "twin", "source": "arXiv 1", "values": {"elbo": -3.0}, "variant": "gaussian"}
TABLE = {"variants": ["gaussian", "joint"], "metrics": ["fd", "elbo"]}


def plan(**table):
    return make_plan(parse_params(params({"toy/tables": {"main": {**TABLE, **table}}})))["toy"]


def built(rows, **table):
    own = plan(**table)
    return build_table(own, own.study.tables["main"], frame(rows))


FD = [*at_seeds("gaussian", "fd", (4.0, 6.0)), *at_seeds("joint", "fd", (1.0, 3.0))]


def test_rows_of_the_literature_stand_beside_ours_with_method_and_source():
    found = cells(built(FD, literature=[LEBM, TWIN]))
    assert list(found) == ["gaussian", "twin — published [arXiv 1]", "joint",
                           "LEBM — published [Cui et al., ICCV 2023]"]  # fmt: skip
    assert found["twin — published [arXiv 1]"] == ["–", "-3.00"]
    assert found["LEBM — published [Cui et al., ICCV 2023]"] == ["0.50", "–"]


def test_quoted_value_is_never_marked_as_the_best_and_takes_nobody_the_mark():
    found = cells(built(FD, literature=[LEBM]))
    assert found["joint"] == ["*2.00 ± 1.41*", "–"]


def test_several_quoted_rows_under_one_of_ours_keep_their_order():
    found = built(FD, literature=[TWIN, {**TWIN, "method": "second"}, LEBM])
    assert [label.split(" — ")[0] for label, _ in found.rows] == ["gaussian", "twin", "second", "joint", "LEBM"]


def test_table_says_that_quoted_values_were_not_measured_and_prints_its_own_notes():
    notes = built(FD, literature=[LEBM], notes=["FID of the papers: legacy."]).notes
    assert "nothing in them was measured here" in notes[-2]
    assert notes[-1] == "FID of the papers: legacy."
    assert not any("published" in note for note in built(FD).notes)


def test_rows_of_protocols_of_their_own_have_quoted_ones_beside_them():
    rows = [*at_seeds("gaussian", "fd", (4.0,)), *at_seeds("joint", "fd", (1.0,), protocol="p@2")]
    found = built(rows, compare="nothing", metrics=["fd"], literature=[{**LEBM, "variant": "gaussian"}])
    assert [*cells(found).values()] == [["4.00"], ["0.50"], ["1.00"]]


def test_csv_counts_no_seeds_of_a_quoted_value():
    columns, rows = csv_rows(built(FD, literature=[LEBM]))
    assert columns[:4] == ["prior", "FD mean", "FD sd", "FD n"]
    assert list(rows[-1].values()) == ["LEBM — published [Cui et al., ICCV 2023]", "0.5", "", "", "", "", ""]
    assert rows[1]["FD n"] == 2


def test_markdown_and_latex_mark_the_row():
    table = built(FD, literature=[LEBM])
    assert "| LEBM — published [Cui et al., ICCV 2023] | 0.50            | –" in markdown(table, "")
    tex = " ".join(latex(table, "").split())
    assert r"LEBM --- published [Cui et al., ICCV 2023] & 0.50 & -- \\" in tex


def complaint(**table):
    with pytest.raises(ParamsError) as error:
        plan(**table)
    return str(error.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"values": {"fid": 1.0}}, "tables.main.literature.0.values.fid: is no column; did you mean 'fd'?"),
        ({"variant": "join"}, "tables.main.literature.0.variant: 'join' is no row; did you mean 'joint'?"),
        ({"source": ""}, "tables.main.literature.0.source"),
        ({"values": {"fd": float("nan")}}, "tables.main.literature.0.values.fd"),
        ({"values": {}}, "tables.main.literature.0.values"),
    ],
)
def test_quoted_value_needs_a_source_and_a_place(entry, message):
    assert message in complaint(literature=[{**LEBM, **entry}])


def test_source_may_not_be_left_out():
    entry = {key: value for key, value in LEBM.items() if key != "source"}
    assert "toy.tables.main.literature.0.source: is required, but missing" in complaint(literature=[entry])


def test_columns_of_several_fields_have_no_quoted_values():
    message = complaint(rows=["seed"], columns=["metric", "variant"], literature=[LEBM])
    assert "tables.main.literature: needs columns of one field" in message


# Columns by a parameter of the variants ------------------------------------------------------------------------------

VARIANTS = {
    "ours-1": {"dataset": {"held_out_class": 1}},
    "ours-4": {"dataset": {"held_out_class": 4}},
    "gaussian-1": {
        "dataset": {"held_out_class": 1}, "prior": {"name": "gaussian"},
        "draw_samples": {"sampler": {"name": "ancestral"}},
    },
}  # fmt: skip
OWN = {"set": "held-out", "score": "elbo"}
SCORES = [
    *at_seeds("ours-1", "auprc", (0.2, 0.4), 100, **OWN), *at_seeds("ours-4", "auprc", (0.9,), 90, "p@2", **OWN),
    *at_seeds("gaussian-1", "auprc", (0.35,), 100, **OWN),
    *at_seeds("gaussian-1", "auprc", (0.1,), 100, set="held-out", score="elbo+f"),
]  # fmt: skip


def by_digit(rows=("prior.name",), scores=("elbo",), **table):
    spec = {
        "variants": list(VARIANTS), "metrics": ["auprc"], "rows": [*rows], "columns": ["dataset.held_out_class"],
        "where": {"set": ["held-out"], "score": [*scores]}, **table,
    }  # fmt: skip
    changes = {"toy/variants": VARIANTS, "toy/figures": {}, "toy/tables": {"main": spec}}
    own = make_plan(parse_params(params(changes)))["toy"]
    return build_table(own, Table.model_validate(spec), frame(SCORES))


def test_the_held_out_class_of_the_dataset_is_a_column_and_is_compared_under_its_own_protocol():
    found = by_digit(literature=[{"method": "LEBM", "source": "s", "values": {"4": 0.63}}])
    assert found.headers == ["prior.name", "1", "4"]
    assert cells(found) == {"ebm": ["0.300 ± 0.141", "0.900"], "gaussian": ["0.350", "–"],
                            "LEBM — published [s]": ["–", "0.630"]}  # fmt: skip
    assert "p@1 (ours-1, gaussian-1); p@2 (ours-4)" in " ".join(found.notes)


def test_scores_may_be_rows_beside_the_priors():
    found = cells(by_digit(rows=["prior.name", "score"], scores=["elbo", "elbo+f"]))
    assert list(found) == ["ebm/elbo", "ebm/elbo+f", "gaussian/elbo", "gaussian/elbo+f"]
    assert found["gaussian/elbo+f"] == ["0.100", "–"]


def test_digit_that_is_no_column_is_refused():
    with pytest.raises(ParamsError, match=r"literature.0.values.7: is no column; allowed: 1, 4"):
        by_digit(literature=[{"method": "LEBM", "source": "s", "values": {"7": 0.63}}])


# What is finished so far ---------------------------------------------------------------------------------------------


def test_preview_of_a_study_without_runs_has_quoted_values_and_empty_cells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = preview(plan(literature=[LEBM]), "main")
    assert "| gaussian                                 | –      | –        |" in text
    assert "| LEBM — published [Cui et al., ICCV 2023] | 0.50   | –        |" in text
    assert "0 of 11 evaluations are finished" in text
    assert not list(tmp_path.iterdir())


def test_preview_shows_what_is_finished(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = plan(literature=[LEBM])
    record, variant = MetricRecord(0), own.variants["joint"]
    record.add("fd", 7.0, 100, record.protocol("fd", {"a": 1}))
    record.save(variant.sample_metrics.run_folder(0) / "metrics.json")
    text = preview(own, "main")
    assert "1 of 11 evaluations are finished" in text
    assert "| joint                                    | 7.00   | –        |" in text
