"""Tables: what is bold, what is averaged, what is refused, and how it is written."""

import csv

import pandas as pd
import pytest
from toy import params

from jebm.config.read import parse_params
from jebm.config.tables import Table
from jebm.errors import JebmError
from jebm.metrics.catalogue import HEADLINE, METRICS
from jebm.pipeline.study import make_plan
from jebm.report.rendered import Cell, Rendered, flat, latex, markdown
from jebm.report.tables import (
    by_seed_table,
    detection_table,
    grid_table,
    keyed_table,
    load_metrics,
    matrix_table,
    metrics_table,
    render,
    rows_table,
    scores_table,
)

PLAN = make_plan(parse_params(params()))["toy"]


def frame(*rows):
    """Rows of (variant, seed, metric, value) or with n and protocol."""
    full = [(*row, 500, "p@1")[:6] if len(row) == 4 else row for row in rows]
    table = pd.DataFrame(full, columns=["variant", "seed", "metric", "value", "n", "protocol"])
    return table.astype({"seed": "Int64"})


def spec(kind, variants, columns):
    return Table(kind=kind, variants=variants, columns=columns, caption="A caption.")


FD = [
    ("gaussian", 0, "fd", 4.0), ("gaussian", 1, "fd", 6.0), ("joint", 0, "fd", 1.0), ("joint", 1, "fd", 3.0),
    ("gaussian", 0, "elbo", -10.0), ("gaussian", 1, "elbo", -12.0), ("joint", 0, "elbo", -20.0),
    ("joint", 1, "elbo", -22.0), ("gaussian", 0, "log_partition", 1.0), ("gaussian", 1, "log_partition", 1.0),
    ("joint", 0, "log_partition", 2.0), ("joint", 1, "log_partition", 2.0),
]  # fmt: skip


def cells(table):
    return {label: [cell.text("*{}*") for cell in row] for label, row in table.rows}


# A cell --------------------------------------------------------------------------------------------------------------


def test_cell_is_mean_and_sample_deviation():
    assert Cell([1.0, 2.0, 6.0], 2).text() == "3.00 ± 2.65"  # √((4 + 1 + 9) / 2)
    assert Cell([1.0, 2.0, 6.0], 0).text() == "3 ± 3"


def test_cell_of_one_seed_has_no_deviation():
    assert Cell([1.234], 2).text() == "1.23"
    assert Cell([1.234], 2).sd is None


def test_cell_without_values_is_a_dash_and_never_bold():
    assert Cell([], 2, best=True).text("**{}**") == "–"


def test_best_cell_is_bold_with_its_deviation():
    assert Cell([1.0, 3.0], 1, best=True).text("**{}**") == "**2.0 ± 1.4**"


# Metrics -------------------------------------------------------------------------------------------------------------


def test_best_is_bold_in_the_direction_of_the_metric():
    found = metrics_table(PLAN, spec("metrics", ["gaussian", "joint"], ["fd", "elbo", "log_partition"]), frame(*FD))
    assert found.headers == ["prior", "FD ↓", "ELBO ↑", "log Z"]
    assert cells(found) == {
        "gaussian": ["5.00 ± 1.41", "*-11.00 ± 1.41*", "1.000 ± 0.000"],
        "joint": ["*2.00 ± 1.41*", "-21.00 ± 1.41", "2.000 ± 0.000"],
    }


def test_best_that_prints_the_same_is_bold_too():
    rows = [("gaussian", 0, "fd", 2.001), ("joint", 0, "fd", 1.999), ("joint-k40", 0, "fd", 2.006)]
    found = metrics_table(PLAN, spec("metrics", ["gaussian", "joint", "joint-k40"], ["fd"]), frame(*rows))
    assert cells(found) == {"gaussian": ["*2.00*"], "joint": ["*2.00*"], "joint-k40": ["2.01"]}


def test_zero_from_below_and_from_above_are_the_same():
    rows = [("gaussian", 0, "elbo", -0.0001), ("joint", 0, "elbo", 0.0001)]
    found = metrics_table(PLAN, spec("metrics", ["gaussian", "joint"], ["elbo"]), frame(*rows))
    assert cells(found) == {"gaussian": ["*0.00*"], "joint": ["*0.00*"]}


def test_scaled_metric_is_scaled_wherever_it_is_printed():
    """Every place prints value × scale; the header says in which unit."""
    scale = METRICS["kd"].scale
    rows = [("gaussian", 0, "kd", 7 / scale), ("joint", 0, "kd", 5 / scale), ("data", None, "kd", 3 / scale, 9, "p@1")]
    table, columns = frame(*rows), ["gaussian", "joint"]
    found = metrics_table(PLAN, spec("metrics", columns, ["kd"]), table)
    assert cells(found) == {"gaussian": ["7.00"], "joint": ["*5.00*"]}
    assert "(floor): 3.00." in found.notes[-1]
    assert cells(by_seed_table(PLAN, spec("by-seed", columns, ["kd"]), table))["0"] == ["7.00", "5.00"]


def test_only_row_is_not_the_best_of_anything():
    found = metrics_table(PLAN, spec("metrics", ["joint"], ["fd"]), frame(*FD))
    assert cells(found) == {"joint": ["2.00 ± 1.41"]}


def test_variant_without_the_metric_gets_a_dash():
    rows = [*FD, ("joint", 0, "acceptance", 0.9), ("joint", 1, "acceptance", 0.7)]
    found = metrics_table(PLAN, spec("metrics", ["gaussian", "joint"], ["acceptance"]), frame(*rows))
    assert cells(found) == {"gaussian": ["–"], "joint": ["0.800 ± 0.141"]}


def test_rows_and_columns_stand_in_the_order_asked_for():
    found = metrics_table(PLAN, spec("metrics", ["joint", "gaussian"], ["elbo", "fd"]), frame(*FD))
    assert [label for label, _ in found.rows] == ["joint", "gaussian"]
    assert found.headers[1:] == ["ELBO ↑", "FD ↓"]


def test_two_protocols_in_one_cell_are_refused():
    rows = [("joint", 0, "fd", 1.0, 500, "p@1"), ("joint", 1, "fd", 1.0, 500, "p@2")]
    with pytest.raises(JebmError, match=r"fd of joint was measured under 2 protocols \(p@1, p@2\)"):
        metrics_table(PLAN, spec("metrics", ["joint"], ["fd"]), frame(*rows))


@pytest.mark.parametrize(("kind", "build"), [("metrics", metrics_table), ("by-seed", by_seed_table)])
def test_two_protocols_in_one_column_are_refused(kind, build):
    rows = [(v, s, "fd", 1.0, 500, p) for v, p in (("gaussian", "p@1"), ("joint", "p@2")) for s in (0, 1)]
    with pytest.raises(
        JebmError, match=r"fd: protocols p@1 and p@2 in one column.*protocols.json says how they differ"
    ):
        build(PLAN, spec(kind, ["gaussian", "joint"], ["fd"]), frame(*rows))


def test_another_protocol_outside_the_table_does_no_harm():
    rows = [*FD, ("joint-k40", 0, "fd", 1.0, 500, "p@2")]
    metrics_table(PLAN, spec("metrics", ["gaussian", "joint"], ["fd"]), frame(*rows))


def test_notes_name_seeds_sample_count_and_protocol():
    found = metrics_table(PLAN, spec("metrics", ["gaussian", "joint"], ["fd", "elbo"]), frame(*FD))
    assert "seeds 0, 1" in found.notes[0]
    assert "n = 2" in found.notes[0]
    assert found.notes[1] == f"FD: {METRICS['fd'].about}; sample count 500, protocol p@1."
    assert found.notes[2].startswith("ELBO: ")
    assert len(found.notes) == 3


def test_note_on_one_seed_promises_no_deviation():
    plan = make_plan(parse_params(params({"toy/seeds": [0]})))["toy"]
    rows = [row for row in FD if row[1] == 0]
    found = metrics_table(plan, spec("metrics", ["gaussian", "joint"], ["fd"]), frame(*rows))
    assert "±" not in " ".join(found.notes)


def test_floor_of_real_data_stands_in_the_notes_and_not_in_the_rows():
    rows = [*FD, ("data", None, "fd", 0.1234, 1097, "p@1"), ("data", None, "kd", 0.001, 1097, "p@1")]
    found = metrics_table(PLAN, spec("metrics", ["gaussian", "joint"], ["fd"]), frame(*rows))
    assert [label for label, _ in found.rows] == ["gaussian", "joint"]
    floor = [note for note in found.notes if "floor" in note]
    assert len(floor) == 1
    assert "1097 training images" in floor[0]
    assert "0.12" in floor[0]


# By seed -------------------------------------------------------------------------------------------------------------


def test_by_seed_table_pairs_the_seeds_and_gives_the_ratio_to_the_first():
    found = by_seed_table(PLAN, spec("by-seed", ["gaussian", "joint"], ["fd", "elbo"]), frame(*FD))
    expected = ["seed", "FD gaussian ↓", "FD joint ↓", "gaussian / joint", "ELBO gaussian ↑", "ELBO joint ↑"]
    assert found.headers == expected
    assert cells(found) == {
        "0": ["4.00", "1.00", "4.00", "-10.00", "-20.00"],
        "1": ["6.00", "3.00", "2.00", "-12.00", "-22.00"],
    }


def test_by_seed_table_lacks_what_was_not_measured():
    rows = [row for row in FD if row[:3] != ("joint", 1, "fd")]
    found = by_seed_table(PLAN, spec("by-seed", ["gaussian", "joint"], ["fd"]), frame(*rows))
    assert cells(found)["1"] == ["6.00", "–", "–"]


def test_by_seed_table_lacks_the_ratio_where_the_first_was_not_measured():
    rows = [row for row in FD if row[:3] != ("gaussian", 1, "fd")]
    found = by_seed_table(PLAN, spec("by-seed", ["gaussian", "joint"], ["fd"]), frame(*rows))
    assert cells(found)["1"] == ["–", "3.00", "–"]


# Detection -----------------------------------------------------------------------------------------------------------


def detection_frame(**changes):
    values = {
        ("gaussian", "overlay", "elbo"): 0.9, ("gaussian", "overlay", "f"): 0.5, ("gaussian", "overlay", "elbo+f"): 0.9,
        ("gaussian", "overlay", "llr>1"): 0.7, ("joint", "overlay", "elbo"): 0.9, ("joint", "overlay", "f"): 0.6,
        ("joint", "overlay", "elbo+f"): 0.95, ("joint", "overlay", "llr>1"): 0.7,
        ("gaussian", "uniform", "elbo"): 1.0, ("gaussian", "uniform", "f"): 0.5, ("gaussian", "uniform", "elbo+f"): 1.0,
        ("gaussian", "uniform", "llr>1"): 0.2, ("joint", "uniform", "elbo"): 1.0, ("joint", "uniform", "f"): 0.3,
        ("joint", "uniform", "elbo+f"): 0.9999, ("joint", "uniform", "llr>1"): 0.2,
    }  # fmt: skip
    rows = [(v, s, f"{m}:{o}:{k}", x) for (v, o, k), x in values.items() for s in (0, 1) for m in ("auroc", "fpr80")]
    return frame(*rows)


def test_detection_table_has_a_row_a_set_and_tilted_scores_of_tilted_priors_only():
    columns = ["auroc:elbo", "auroc:elbo+f", "auroc:f", "auroc:llr>1"]
    found = detection_table(PLAN, spec("detection", ["gaussian", "joint"], columns), detection_frame())
    assert found.headers == ["outliers", "elbo (gaussian)", "llr>1 (gaussian)", "elbo+f (joint)", "f (joint)"]
    assert cells(found) == {
        "overlay": ["0.900 ± 0.000", "0.700 ± 0.000", "*0.950 ± 0.000*", "0.600 ± 0.000"],
        "uniform": ["*1.000 ± 0.000*", "0.200 ± 0.000", "*1.000 ± 0.000*", "0.300 ± 0.000"],
    }
    assert "area under the ROC curve" in found.notes[1]


def test_best_false_positive_rate_is_the_lowest():
    columns = ["fpr80:elbo", "fpr80:f"]
    found = detection_table(PLAN, spec("detection", ["gaussian", "joint"], columns), detection_frame())
    assert cells(found)["overlay"] == ["0.900 ± 0.000", "*0.600 ± 0.000*"]


# Written -------------------------------------------------------------------------------------------------------------

TABLE = Rendered(
    ["prior", "FD ↓", "FPR at 80 % TPR ↓"],
    [("gaussian", [Cell([5.0, 7.0], 2), Cell([], 3)]), ("llr>1_a", [Cell([2.0, 3.0], 2, best=True), Cell([-0.5], 3)])],
    ["A note."],
)


def test_markdown():
    assert markdown(TABLE, "A caption.") == (
        "A caption.\n\n"
        "| prior    | FD ↓            | FPR at 80 % TPR ↓   |\n"
        "|:---------|:----------------|:--------------------|\n"
        "| gaussian | 6.00 ± 1.41     | –                   |\n"
        "| llr>1_a  | **2.50 ± 0.71** | -0.500              |\n\n"
        "- A note.\n"
    )


def test_latex():
    assert latex(TABLE, "8×8 at 50 %.") == (
        "% A note.\n\\begin{table}\n\\centering\n\\caption{8×8 at 50 \\%.}\n\\begin{tabular}{lrr}\n\\toprule\n"
        "prior & FD $\\downarrow$ & FPR at 80 \\% TPR $\\downarrow$ \\\\\n\\midrule\n"
        "gaussian & 6.00 $\\pm$ 1.41 & -- \\\\\n"
        "llr$>$1\\_a & \\textbf{2.50 $\\pm$ 0.71} & -0.500 \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


@pytest.mark.parametrize("character", ["&", "#", "$"])
def test_latex_escapes_what_a_caption_may_hold(character):
    assert f"a \\{character} b" in latex(TABLE, f"a {character} b")


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "toy").mkdir(parents=True)
    rows = [*FD, ("data", "", "fd", 0.1)]
    lines = ["study,variant,seed,metric,value,n,protocol", *(f"toy,{v},{s},{m},{x},500,p@1" for v, s, m, x in rows)]
    (tmp_path / "results" / "toy" / "metrics.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "results" / "toy" / "timings.csv").write_text("variant,seed,metric,value\n")
    return tmp_path / "results" / "toy"


def test_render_writes_three_formats(results):
    render(PLAN, "main")
    assert sorted(p.name for p in (results / "tables").iterdir()) == ["main.csv", "main.md", "main.tex"]
    with open(results / "tables" / "main.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["prior", "FD mean", "FD sd", "FD n"]
    assert rows[1] == ["gaussian", "5", "1.41421", "2"]
    assert rows[2] == ["joint", "2", "1.41421", "2"]
    assert "| joint    | **2.00 ± 1.41** |" in (results / "tables" / "main.md").read_text()


def test_unknown_table_is_refused_with_what_there_is(results):
    with pytest.raises(JebmError, match=r"toy.tables: no table 'mian'; it has: main"):
        render(PLAN, "mian")


def test_floor_has_no_seed(results):
    found = load_metrics(PLAN)
    assert found[found.variant == "data"].seed.isna().all()
    assert found.seed.dropna().tolist() == [0, 1] * 6


def test_every_headline_metric_is_described():
    assert set(HEADLINE) <= set(METRICS)
    assert all(metric.better in (-1, 0, 1) for metric in METRICS.values())


# Metrics under several keys ------------------------------------------------------------------------------------------

KEYED = [
    ("gaussian", 0, "kl:z1", 1.0), ("gaussian", 1, "kl:z1", 3.0), ("gaussian", 0, "kl:z2", 5.0),
    ("gaussian", 1, "kl:z2", 5.0), ("gaussian", 0, "probe:z1", 0.5), ("gaussian", 1, "probe:z1", 0.5),
    ("joint", 0, "kl:z1", 7.0), ("joint", 1, "kl:z1", 7.0),
]  # fmt: skip


def test_matrix_has_a_row_a_variant_and_a_column_a_key():
    table = matrix_table(PLAN, spec("matrix", ["gaussian", "joint"], ["kl"]), frame(*KEYED))
    assert table.headers == ["variant", "z1", "z2"]
    assert cells(table) == {"gaussian": ["2.00 ± 1.41", "5.00 ± 0.00"], "joint": ["7.00 ± 0.00", "–"]}


def test_keyed_table_has_a_row_a_key():
    table = keyed_table(PLAN, spec("keyed", ["gaussian"], ["kl", "probe"]), frame(*KEYED))
    assert table.headers == ["of", "KL", "probe ↑"]
    assert cells(table) == {"z1": ["2.00 ± 1.41", "0.500 ± 0.000"], "z2": ["5.00 ± 0.00", "–"]}
    assert any(note.startswith("KL: KL of the inference") and "sample count 500" in note for note in table.notes)


# Rows of different data ----------------------------------------------------------------------------------------------


def scored(*rows):
    """(variant, metric, value, protocol) at both seeds."""
    return frame(*[(v, seed, metric, value, 500, protocol) for v, metric, value, protocol in rows for seed in (0, 1)])


SCORED = scored(
    ("gaussian", "auroc:held-out:elbo", 0.9, "p@1"), ("gaussian", "auroc:held-out:f_1", 0.6, "p@1"),
    ("joint", "auroc:held-out:elbo", 0.7, "p@2"), ("joint", "auroc:held-out:f_1", 0.8, "p@2"),
    ("joint-k40", "auroc:a:elbo", 0.5, "p@3"), ("joint-k40", "auroc:b:elbo", 0.6, "p@3"),
)  # fmt: skip


def test_scores_are_compared_within_a_row_and_each_row_has_its_protocol():
    found = scores_table(PLAN, spec("scores", ["gaussian", "joint"], ["auroc:elbo", "auroc:f_1"]), SCORED)
    assert found.headers == ["outliers", "elbo", "f_1"]
    assert cells(found) == {
        "gaussian": ["*0.900 ± 0.000*", "0.600 ± 0.000"],
        "joint": ["0.700 ± 0.000", "*0.800 ± 0.000*"],
    }
    assert found.notes[1].endswith("sample count 500, protocol p@1 (gaussian); p@2 (joint).")


def test_label_of_a_score_row_says_what_tells_it_apart():
    one = scores_table(PLAN, spec("scores", ["joint-k40"], ["auroc:elbo"]), SCORED)
    assert [label for label, _ in one.rows] == ["a", "b"]
    both = scores_table(PLAN, spec("scores", ["joint", "joint-k40"], ["auroc:elbo"]), SCORED)
    assert [label for label, _ in both.rows] == ["joint", "joint-k40: a", "joint-k40: b"]


def test_two_protocols_in_one_row_are_refused():
    rows = scored(("joint", "auroc:a:elbo", 0.5, "p@1"), ("joint", "auroc:b:elbo", 0.5, "p@2"))
    with pytest.raises(JebmError, match=r"auroc of joint: protocols p@1, p@2 in one row"):
        scores_table(PLAN, spec("scores", ["joint"], ["auroc:elbo"]), rows)


GAINS = scored(
    ("gaussian", "auroc_gain:a", 0.01, "p@1"), ("gaussian", "auroc_gain_low:a", -0.02, "p@1"),
    ("gaussian", "auroc_gain_high:a", 0.03, "p@1"), ("joint", "auroc_gain:a", 0.1, "p@2"),
    ("joint", "auroc_gain_low:a", 0.05, "p@2"), ("joint", "auroc_gain_high:a", 0.2, "p@2"),
    ("joint", "auroc_gain:b", 0.3, "p@2"), ("gaussian", "fd", 4.0, "q@1"), ("joint", "fd", 2.0, "q@2"),
)  # fmt: skip


def test_rows_show_intervals_and_compare_nothing():
    found = rows_table(PLAN, spec("rows", ["gaussian", "joint"], ["auroc_gain"]), GAINS)
    assert cells(found) == {
        "gaussian": ["0.0100 ± 0.0000 [-0.0200, 0.0300]"],
        "joint: a": ["0.1000 ± 0.0000 [0.0500, 0.2000]"],
        "joint: b": ["0.3000 ± 0.0000"],
    }
    assert "95 % interval over images" in found.notes[-1]


def test_rows_of_plain_metrics_may_have_protocols_of_their_own():
    found = rows_table(PLAN, spec("rows", ["gaussian", "joint"], ["fd"]), GAINS)
    assert cells(found) == {"gaussian": ["4.00 ± 0.00"], "joint": ["2.00 ± 0.00"]}
    assert "interval" not in found.notes[-1]


def test_csv_has_the_ends_of_intervals_where_there_are_any():
    columns, rows = flat(rows_table(PLAN, spec("rows", ["gaussian", "joint"], ["auroc_gain"]), GAINS))
    assert columns == ["of", "AUROC gain mean", "AUROC gain sd", "AUROC gain n", "AUROC gain low", "AUROC gain high"]
    assert list(rows[0].values()) == ["gaussian", "0.01", "0", 2, "-0.02", "0.03"]
    assert list(rows[2].values()) == ["joint: b", "0.3", "0", 2, "", ""]
    columns, _ = flat(rows_table(PLAN, spec("rows", ["gaussian"], ["fd"]), GAINS))
    assert columns == ["of", "FD mean", "FD sd", "FD n"]


def test_layer_terms_of_the_energy_belong_to_the_tilted_priors():
    columns = ["auroc:elbo", "auroc:f_1", "auroc:kl_1"]
    found = detection_table(PLAN, spec("detection", ["gaussian", "joint"], columns), detection_frame())
    assert found.headers == ["outliers", "elbo (gaussian)", "kl_1 (gaussian)", "f_1 (joint)"]


@pytest.mark.parametrize("score", ["kl_0", "f_", "elbo-f", "llr>", "mahalanobi"])
def test_unknown_score_is_refused(score):
    with pytest.raises(ValueError, match="is no score"):
        spec("scores", ["joint"], [f"auroc:{score}"])


@pytest.mark.parametrize(("score", "fits"), [("kl_2", True), ("f_2", True), ("llr>1", True), ("kl_3", False),
                                             ("f_3", False), ("llr>2", False)])  # fmt: skip
def test_score_of_a_layer_needs_that_layer(score, fits):
    table = {"kind": "scores", "variants": ["joint"], "columns": [f"auroc:{score}"]}
    if fits:
        parse_params(params({"toy/tables/scores": table}))
        return
    with pytest.raises(JebmError, match=r"toy.tables.scores.columns: 'auroc:.*' needs more than 2 layers"):
        parse_params(params({"toy/tables/scores": table}))


# Grids ---------------------------------------------------------------------------------------------------------------


def test_grid_spreads_the_second_part_of_a_key_over_columns():
    rows = [
        ("joint", 0, "fd_steps:ula 0.1/0", 9.0), ("joint", 1, "fd_steps:ula 0.1/0", 7.0),
        ("joint", 0, "fd_steps:ula 0.1/20", 3.0), ("joint", 0, "fd_steps:mala/0", 5.0),
        ("gaussian", 0, "fd_steps:mala/20", 6.0), ("joint", 0, "fd", 1.0),
    ]  # fmt: skip
    one = grid_table(PLAN, spec("grid", ["joint"], ["fd_steps"]), frame(*rows))
    assert one.headers == ["of", "0", "20"]
    assert cells(one) == {"ula 0.1": ["8.00 ± 1.41", "3.00"], "mala": ["5.00", "–"]}
    both = grid_table(PLAN, spec("grid", ["gaussian", "joint"], ["fd_steps"]), frame(*rows))
    assert list(cells(both)) == ["gaussian: mala", "joint: ula 0.1", "joint: mala"]
    assert any("p@1" in note for note in both.notes)
