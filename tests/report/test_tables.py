"""Tables: what stands in a cell, what is bold, what is refused, and how it is written."""

import csv
from pathlib import Path

import pytest
from measured import at_seeds, frame
from toy import params

from jebm.config.read import parse_params
from jebm.config.tables import Table
from jebm.errors import JebmError, ParamsError
from jebm.metrics.catalogue import METRICS
from jebm.pipeline.study import make_plan
from jebm.report.frame import load_metrics
from jebm.report.table_format import Cell, RenderedTable, csv_rows, latex, markdown
from jebm.report.tables import build_table, preview, render
from jebm.report.terminal import fit_to_terminal

PLAN = make_plan(parse_params(params()))["toy"]
BOTH = {"variants": ["gaussian", "joint"]}
FD = [
    *at_seeds("gaussian", "fd", (4.0, 6.0)), *at_seeds("joint", "fd", (1.0, 3.0)),
    *at_seeds("gaussian", "elbo", (-10.0, -12.0)), *at_seeds("joint", "elbo", (-20.0, -22.0)),
    *at_seeds("gaussian", "log_z", (1.0, 1.0)), *at_seeds("joint", "log_z", (2.0, 2.0)),
]  # fmt: skip


def table(measured, plan=PLAN, **spec):
    return build_table(plan, Table.model_validate(BOTH | {"caption": "A caption."} | spec), frame(measured))


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


# Variants and metrics ------------------------------------------------------------------------------------------------


def test_best_is_bold_in_the_direction_of_the_metric():
    found = table(FD, metrics=["fd", "elbo", "log_z"])
    assert found.headers == ["prior", "FD ↓", "ELBO ↑", "log Z"]
    assert cells(found) == {
        "gaussian": ["5.00 ± 1.41", "*-11.00 ± 1.41*", "1.000 ± 0.000"],
        "joint": ["*2.00 ± 1.41*", "-21.00 ± 1.41", "2.000 ± 0.000"],
    }


def test_nothing_is_bold_where_the_table_wants_none():
    assert "*" not in str(cells(table(FD, metrics=["fd", "elbo"], best=False)))


def test_best_that_prints_the_same_is_bold_too():
    rows = [*at_seeds("gaussian", "fd", (2.001, 2.001)), *at_seeds("joint", "fd", (1.999, 1.999))]
    rows += at_seeds("joint-k40", "fd", (2.006, 2.006))
    found = table(rows, variants=["gaussian", "joint", "joint-k40"], metrics=["fd"])
    assert cells(found) == {
        "gaussian": ["*2.00 ± 0.00*"],
        "joint": ["*2.00 ± 0.00*"],
        "joint-k40": ["2.01 ± 0.00"],
    }


def test_zero_from_below_and_from_above_are_the_same():
    rows = [*at_seeds("gaussian", "elbo", (-0.0001,)), *at_seeds("joint", "elbo", (0.0001,))]
    assert cells(table(rows, metrics=["elbo"])) == {"gaussian": ["0.00"], "joint": ["0.00"]}


def test_scaled_metric_is_scaled_wherever_it_is_printed():
    """Every place prints value × scale; the header says in which unit."""
    scale = METRICS["kd"].scale
    rows = [*at_seeds("gaussian", "kd", (7 / scale,)), *at_seeds("joint", "kd", (5 / scale,), low=4 / scale, high=9)]
    rows += at_seeds("real-data", "kd", (3 / scale,), n=9)
    found = table(rows, metrics=["kd"])
    assert cells(found) == {"gaussian": ["7.00"], "joint": ["5.00"]}
    assert "(floor): 3.00." in found.notes[-1]
    assert cells(table(rows, metrics=["kd"], intervals=True))["joint"][0].startswith("5.00 [4.00, ")


def test_only_row_is_not_the_best_of_anything():
    assert cells(table(FD, variants=["joint"], metrics=["fd"])) == {"joint": ["2.00 ± 1.41"]}


def test_variant_without_the_metric_gets_a_dash():
    found = table([*FD, *at_seeds("joint", "acceptance", (0.9, 0.7))], metrics=["acceptance"])
    assert cells(found) == {"gaussian": ["–"], "joint": ["0.800 ± 0.141"]}


def test_rows_and_columns_stand_in_the_order_asked_for():
    found = table(FD, variants=["joint", "gaussian"], metrics=["elbo", "fd"])
    assert [label for label, _ in found.rows] == ["joint", "gaussian"]
    assert found.headers[1:] == ["ELBO ↑", "FD ↓"]


def test_two_protocols_in_one_cell_are_refused():
    rows = at_seeds("joint", "fd", (1.0, 1.0))
    rows[1]["protocol"] = "p@2"
    with pytest.raises(JebmError, match=r"joint, fd: was measured under 2 protocols \(p@1, p@2\)"):
        table(rows, metrics=["fd"])


@pytest.mark.parametrize(
    ("shape", "where"),
    [({}, "column"), ({"rows": ["seed"], "columns": ["metric", "variant"], "compare": "rows"}, "row")],
)
def test_two_protocols_among_what_is_compared_are_refused(shape, where):
    rows = [*at_seeds("gaussian", "fd", (1.0, 1.0)), *at_seeds("joint", "fd", (1.0, 1.0), protocol="p@2")]
    with pytest.raises(JebmError, match=rf"fd: protocols p@1 and p@2 in one {where}.*protocols.json says how they"):
        table(rows, metrics=["fd"], **shape)


def test_where_nothing_is_compared_each_variant_may_have_its_protocol_and_none_is_the_best():
    rows = [*at_seeds("gaussian", "fd", (1.0, 1.0)), *at_seeds("joint", "fd", (3.0, 3.0), protocol="p@2")]
    found = table(rows, metrics=["fd"], compare="nothing")
    assert cells(found) == {"gaussian": ["1.00 ± 0.00"], "joint": ["3.00 ± 0.00"]}
    assert found.notes[1].endswith("sample count 500, protocol p@1 (gaussian); p@2 (joint).")


def test_another_protocol_outside_the_table_does_no_harm():
    table([*FD, *at_seeds("joint-k40", "fd", (1.0,), protocol="p@2")], metrics=["fd"])


def test_notes_name_seeds_sample_count_and_protocol():
    found = table(FD, metrics=["fd", "elbo"])
    assert "seeds 0, 1" in found.notes[0]
    assert "n = 2" in found.notes[0]
    assert found.notes[1] == f"FD: {METRICS['fd'].about}; sample count 500, protocol p@1."
    assert found.notes[2].startswith("ELBO: ")
    assert found.notes[3].startswith("Bold: better than all others by more than the noise over seeds")
    assert len(found.notes) == 4


def test_note_on_one_seed_promises_no_deviation():
    plan = make_plan(parse_params(params({"toy/seeds": [0]})))["toy"]
    found = table([row for row in FD if row["seed"] == 0], plan, metrics=["fd"])
    assert "±" not in " ".join(found.notes)


def test_floor_of_real_data_stands_in_the_notes_and_not_in_the_rows():
    rows = [*FD, *at_seeds("real-data", "fd", (0.1234,), n=1097), *at_seeds("real-data", "kd", (0.001,), n=1097)]
    found = table(rows, metrics=["fd"])
    assert [label for label, _ in found.rows] == ["gaussian", "joint"]
    floor = [note for note in found.notes if "floor" in note]
    assert len(floor) == 1
    assert "1097 training images" in floor[0]
    assert "0.12" in floor[0]


# Seeds as columns ----------------------------------------------------------------------------------------------------

BY_SEED = {"rows": ["metric", "variant"], "columns": ["seed"], "best": False}


def test_columns_of_seeds_have_one_value_each():
    found = table(FD, metrics=["fd", "elbo"], **BY_SEED)
    assert found.headers[1:] == ["0", "1"]
    assert cells(found) == {
        "gaussian: FD": ["4.00", "6.00"],
        "joint: FD": ["1.00", "3.00"],
        "gaussian: ELBO": ["-10.00", "-12.00"],
        "joint: ELBO": ["-20.00", "-22.00"],
    }
    assert "Mean" not in found.notes[0]


def test_columns_of_seeds_lack_what_was_not_measured():
    rows = [row for row in FD if (row["variant"], row["seed"], row["metric"]) != ("joint", 1, "fd")]
    assert cells(table(rows, metrics=["fd"], **BY_SEED))["joint"] == ["1.00", "–"]


# Sets, scores, layers and steps --------------------------------------------------------------------------------------


def detected(**values):
    """AUROC and FPR at both seeds by ``variant``: {set: {score: value}}."""
    return [
        row
        for variant, sets in values.items()
        for name, scores in sets.items()
        for score, value in scores.items()
        for metric in ("auroc", "fpr80")
        for row in at_seeds(variant, metric, (value, value), set=name, score=score)
    ]


DETECTED = detected(
    gaussian={
        "overlay": {"elbo": 0.9, "f": 0.5, "elbo+f": 0.9, "llr>1": 0.7},
        "uniform": {"elbo": 1.0, "f": 0.5, "elbo+f": 1.0, "llr>1": 0.2},
    },
    joint={
        "overlay": {"elbo": 0.9, "f": 0.6, "elbo+f": 0.95, "llr>1": 0.7},
        "uniform": {"elbo": 1.0, "f": 0.3, "elbo+f": 0.9999, "llr>1": 0.2},
    },
)
BY_PRIOR = {
    "label": "outliers", "rows": ["set"], "columns": ["variant", "score"], "compare": "rows",
    "scores": {"gaussian": ["elbo", "llr>1"], "joint": ["elbo+f", "f"]},
}  # fmt: skip


def test_each_variant_may_have_its_own_scores():
    found = table(DETECTED, metrics=["auroc"], **BY_PRIOR)
    assert found.headers == ["outliers", "elbo (gaussian)", "llr>1 (gaussian)", "elbo+f (joint)", "f (joint)"]
    assert cells(found) == {
        "overlay": ["0.900 ± 0.000", "0.700 ± 0.000", "*0.950 ± 0.000*", "0.600 ± 0.000"],
        "uniform": ["*1.000 ± 0.000*", "0.200 ± 0.000", "*1.000 ± 0.000*", "0.300 ± 0.000"],
    }
    assert "area under the ROC curve" in found.notes[1]


def test_best_false_positive_rate_is_the_lowest():
    found = table(DETECTED, metrics=["fpr80"], **BY_PRIOR | {"scores": {"gaussian": ["elbo"], "joint": ["f"]}})
    assert cells(found)["overlay"] == ["0.900 ± 0.000", "*0.600 ± 0.000*"]


BY_SCORE = {"rows": ["variant", "set"], "columns": ["score"], "compare": "rows", "where": {"score": ["elbo", "f"]}}


def test_label_says_only_what_tells_rows_apart():
    assert list(cells(table(DETECTED, variants=["joint"], metrics=["auroc"], **BY_SCORE))) == ["overlay", "uniform"]
    rows = [row for row in DETECTED if (row["variant"], row["set"]) != ("gaussian", "uniform")]
    labels = ["gaussian", "joint: overlay", "joint: uniform"]
    assert list(cells(table(rows, metrics=["auroc"], **BY_SCORE))) == labels


def test_snapshots_of_training_are_no_part_of_a_table_that_does_not_ask_for_steps():
    rows = detected(joint={"a": {"f": 0.5}}) + at_seeds("joint", "auroc", (0.7, 0.9), set="a", score="f", step=300)
    shape = BY_SCORE | {"where": {"score": ["f"]}}
    assert cells(table(rows, variants=["joint"], metrics=["auroc"], **shape)) == {"a": ["0.500 ± 0.000"]}
    steps = shape | {"columns": ["score", "step"]}
    found = table(rows, variants=["joint"], metrics=["auroc"], **steps)
    assert found.headers == ["set", "f", "f/300"]


LAYERS = [
    *at_seeds("gaussian", "kl", (1.0, 3.0), layer="z1"), *at_seeds("gaussian", "kl", (5.0, 5.0), layer="z2"),
    *at_seeds("gaussian", "probe", (0.5, 0.5), layer="z1"), *at_seeds("joint", "kl", (7.0, 7.0), layer="z1"),
    *at_seeds("joint", "kl", (9.0, 9.0)),
]  # fmt: skip


def test_layers_may_be_columns_and_metrics_rows():
    found = table(LAYERS, metrics=["kl"], columns=["layer"], best=False, label="variant")
    assert found.headers == ["variant", "z1", "z2"]
    assert cells(found) == {"gaussian": ["2.00 ± 1.41", "5.00 ± 0.00"], "joint": ["7.00 ± 0.00", "–"]}
    both = table(LAYERS, metrics=["kl", "probe"], rows=["metric", "variant"], columns=["layer"], best=False)
    assert list(cells(both)) == ["gaussian: KL", "joint: KL", "gaussian: probe", "joint: probe"]


def test_layers_may_be_rows():
    found = table(LAYERS, variants=["gaussian"], metrics=["kl", "probe"], rows=["layer"])
    assert found.headers == ["layer", "KL", "probe ↑"]
    assert cells(found) == {"z1": ["2.00 ± 1.41", "0.500 ± 0.000"], "z2": ["5.00 ± 0.00", "–"]}


def test_a_value_without_a_set_is_no_row_among_those_that_have_one():
    rows = [*at_seeds("joint", "acceptance", (0.5,)), *at_seeds("joint", "acceptance", (0.9,), set="ula 0.1")]
    assert cells(table(rows, variants=["joint"], metrics=["acceptance"])) == {"joint": ["0.500"]}
    assert cells(table(rows, variants=["joint"], metrics=["acceptance"], rows=["set"])) == {"ula 0.1": ["0.900"]}


def test_steps_may_be_columns():
    rows = [
        *at_seeds("joint", "fd_steps", (9.0, 7.0), set="ula 0.1", step=0),
        *at_seeds("joint", "fd_steps", (3.0,), set="ula 0.1", step=20),
        *at_seeds("joint", "fd_steps", (5.0,), set="mala", step=0),
        *at_seeds("gaussian", "fd_steps", (6.0,), set="mala", step=20),
    ]
    one = table(rows, variants=["joint"], metrics=["fd_steps"], rows=["set"], columns=["step"], best=False)
    assert one.headers == ["set", "0", "20"]
    assert cells(one) == {"ula 0.1": ["8.00 ± 1.41", "3.00"], "mala": ["5.00", "–"]}
    both = table(rows, metrics=["fd_steps"], rows=["variant", "set"], columns=["step"], best=False)
    assert list(cells(both)) == ["gaussian", "joint: ula 0.1", "joint: mala"]


def test_metric_that_comes_by_set_and_score_alone_is_refused_where_they_are_not_named():
    with pytest.raises(JebmError, match=r"auroc: no value fits rows, columns and where of the table.*'set', 'score'"):
        table(DETECTED, metrics=["auroc"])


def test_several_values_of_a_seed_are_refused():
    with pytest.raises(JebmError, match="several values of a seed in one cell"):
        table(FD, metrics=["fd"], rows=["dataset.name"])


def test_parameters_of_variants_may_be_rows_and_columns():
    found = table(FD, metrics=["fd"], rows=["dataset.name"], columns=["prior.name"])
    assert found.headers == ["dataset.name", "gaussian", "ebm"]
    assert cells(found) == {"digits": ["5.00 ± 1.41", "2.00 ± 1.41"]}


# Intervals -----------------------------------------------------------------------------------------------------------

GAINS = [
    *at_seeds("gaussian", "auroc_gain", (0.01, 0.01), set="a", low=-0.02, high=0.03),
    *at_seeds("joint", "auroc_gain", (0.1, 0.1), protocol="p@2", set="a", low=0.05, high=0.2),
    *at_seeds("joint", "auroc_gain", (0.3, 0.3), protocol="p@2", set="b"),
]
INTERVALS = {"metrics": ["auroc_gain"], "rows": ["variant", "set"], "compare": "nothing", "intervals": True}


def test_intervals_are_means_of_their_ends():
    found = table(GAINS, **INTERVALS)
    assert cells(found) == {
        "gaussian": ["0.0100 ± 0.0000 [-0.0200, 0.0300]"],
        "joint: a": ["0.1000 ± 0.0000 [0.0500, 0.2000]"],
        "joint: b": ["0.3000 ± 0.0000"],
    }
    assert "95 % interval over images" in found.notes[-1]


def test_csv_has_the_ends_of_intervals_where_there_are_any():
    columns, rows = csv_rows(table(GAINS, **INTERVALS))
    assert columns == [
        "prior: set",
        "AUROC gain mean",
        "AUROC gain sd",
        "AUROC gain n",
        "AUROC gain low",
        "AUROC gain high",
    ]
    assert list(rows[0].values()) == ["gaussian", "0.01", "0", 2, "-0.02", "0.03"]
    assert list(rows[2].values()) == ["joint: b", "0.3", "0", 2, "", ""]
    columns, _ = csv_rows(table(FD, metrics=["fd"]))
    assert columns == ["prior", "FD mean", "FD sd", "FD n"]


NOISY = [*at_seeds("joint", "fd", (1.0, 3.0)), *at_seeds("joint", "fd_noise", (0.25, 0.5))]
NOISY_PLAN = make_plan(parse_params(params({"toy/variants/joint/draw_samples": {"sets": 4}})))["toy"]


def test_noise_over_sample_sets_is_noted_where_the_spread_is_over_seeds():
    found = table(NOISY, NOISY_PLAN, metrics=["fd"])
    assert cells(found) == {"gaussian": ["–"], "joint": ["2.00 ± 1.41"]}
    note = (
        "FD: the value of a seed is the mean over 4 sample sets of this size; their standard deviation within a seed is"
    )
    assert f"{note} 0.25 to 0.50." in found.notes
    assert not any("sample sets" in note for note in table(FD, metrics=["fd"]).notes)


def test_noise_over_sample_sets_stands_beside_the_value_of_a_seed():
    spec = {"rows": ["seed"], "columns": ["metric", "variant"], "compare": "rows", "best": False, "metrics": ["fd"]}
    found = table([*NOISY, *at_seeds("gaussian", "fd", (4.0, 6.0))], NOISY_PLAN, **spec)
    assert cells(found) == {"0": ["4.00", "1.00 ± 0.25"], "1": ["6.00", "3.00 ± 0.50"]}
    assert any(
        note.endswith("sample sets of this size (of one set: gaussian), ± the standard deviation over these sets.")
        for note in found.notes
    )
    columns, rows = csv_rows(found)
    assert columns[-4:] == ["FD joint mean", "FD joint sd", "FD joint n", "FD joint noise"]
    assert not any(column.endswith("gaussian noise") for column in columns)
    assert [row["FD joint noise"] for row in rows] == ["0.25", "0.5"]


def test_posterior_draws_are_no_candidate_for_the_best_and_explained():
    block = {"prior": {"name": "aggregate-posterior"}, "draw_samples": {"sampler": {"name": "ancestral"}}}
    plan = make_plan(parse_params(params({"toy/variants/posterior": block})))["toy"]
    rows = [*FD, *at_seeds("posterior", "fd", (0.5, 0.5))]
    found = table(rows, plan, variants=["gaussian", "joint", "posterior"], metrics=["fd"])
    assert cells(found) == {"gaussian": ["5.00 ± 1.41"], "joint": ["*2.00 ± 1.41*"], "posterior": ["0.50 ± 0.00"]}
    (note,) = (note for note in found.notes if note.startswith("posterior: "))
    assert "the best that a prior can reach on its backbone" in note


# What a table may ask for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["kl_0", "kl_3", "f_", "f_3", "elbo-f", "llr>", "llr>2", "mahalanobi"])
def test_unknown_score_is_refused(score):
    spec = {"variants": ["joint"], "metrics": ["auroc"], **BY_SCORE, "where": {"score": [score]}}
    with pytest.raises(ParamsError, match=f"toy.tables.scores.where.score: '{score}' is no score of 2 layers"):
        parse_params(params({"toy/tables/scores": spec}))


@pytest.mark.parametrize("score", ["kl_2", "f_2", "llr>1", "isolation-forest"])
def test_score_of_a_layer_is_known(score):
    spec = {"variants": ["joint"], "metrics": ["auroc"], **BY_SCORE, "where": {"score": [score]}}
    parse_params(params({"toy/tables/scores": spec}))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"metrics": ["fd", "kd"], "columns": ["layer"]},
            "metrics: several of them need 'metric' among rows or columns",
        ),
        ({"rows": ["seed"]}, "variants: several of them need 'variant' among rows or columns"),
        ({"rows": ["metric"]}, "columns: 'metric' stands twice in rows and columns"),
        ({"scores": {"jont": ["f"]}}, "scores: 'jont' is no row of this table; did you mean 'joint'?"),
        ({"scores": {"joint": ["f"]}}, "scores: need 'score' among rows and columns"),
    ],
)
def test_shape_that_makes_no_table_is_refused(spec, message):
    with pytest.raises(ParamsError) as error:
        parse_params(params({"toy/tables/main": {**BOTH, "metrics": ["fd"], **spec}}))
    assert f"toy.tables.main.{message}" in str(error.value)


# Written -------------------------------------------------------------------------------------------------------------

TABLE = RenderedTable(
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


RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.parametrize(
    ("plain", "tex"),
    [
        ("FD of ε", r"FD of $\epsilon$"), ("λ", r"$\lambda$"), ("Σ", r"$\Sigma$"), ("×10⁻⁴", r"$\times 10^{-4}$"),
        ("σ²", r"$\sigma$$^{2}$"), ("a — b", "a --- b"),
    ],
)  # fmt: skip
def test_latex_needs_no_package_for_symbols(plain, tex):
    assert tex in latex(TABLE, plain)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/tables/*.tex")), ids=str)
def test_recorded_latex_holds_no_symbol_that_latex_does_not_know(path):
    text = "".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("%"))
    assert not {letter for letter in text if ord(letter) > 255 or letter in "±×²³"}


def test_latex():
    lines = [" ".join(line.split()) for line in latex(TABLE, "8×8 at 50 %.").splitlines()]
    assert lines == [
        "% A note.", r"\begin{table}", r"\centering", r"\caption{8$\times$8 at 50 \%.}",
        r"\begin{tabular}{lrr}", r"\toprule",
        r"prior & FD $\downarrow$ & FPR at 80 \% TPR $\downarrow$ \\", r"\midrule",
        r"gaussian & 6.00 $\pm$ 1.41 & -- \\",
        r"llr\ensuremath{>}1\_a & \textbf{2.50 $\pm$ 0.71} & -0.500 \\",
        r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip


@pytest.mark.parametrize("character", ["&", "#", "$"])
def test_latex_escapes_what_a_caption_may_hold(character):
    assert f"a \\{character} b" in latex(TABLE, f"a {character} b")


def test_table_on_a_terminal_is_continued_below_where_it_is_too_wide():
    text = markdown(TABLE, "A caption of some words.")
    assert "6.00 ± 1.41     | –" in fit_to_terminal(text, 100)
    narrow = fit_to_terminal(text, 40)
    assert max(map(len, narrow.splitlines())) <= 40
    assert narrow.count("| gaussian |") == 2
    assert narrow.endswith("- A note.")


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results" / "toy"
    folder.mkdir(parents=True)
    rows = frame(FD, DETECTED, at_seeds("real-data", "fd", (0.1,)))
    rows.to_csv(folder / "metrics.csv", index=False)
    return folder


def test_render_writes_three_formats(results):
    render(PLAN, "main")
    assert sorted(p.name for p in (results / "tables").iterdir()) == ["main.csv", "main.md", "main.tex"]
    page = Path("runs/render_table/toy/main.html").read_text()
    assert "<td>joint</td><td><b>2.00 ± 1.41</b></td>" in page
    assert "<li>Mean ± standard deviation over seeds 0, 1 (n = 2).</li>" in page
    assert "src=" not in page
    with open(results / "tables" / "main.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["prior", "FD mean", "FD sd", "FD n"]
    assert rows[1] == ["gaussian", "5", "1.41421", "2"]
    assert rows[2] == ["joint", "2", "1.41421", "2"]
    assert "| joint    | **2.00 ± 1.41** |" in (results / "tables" / "main.md").read_text()


def test_unknown_table_is_refused_with_what_there_is(results):
    with pytest.raises(JebmError, match=r"toy.tables: no table 'mian'; it has: main"):
        render(PLAN, "mian")


def test_set_that_was_not_measured_is_refused_with_the_nearest(results):
    spec = {**BOTH, "metrics": ["auroc"], **BY_SCORE, "where": {"score": ["f"], "set": ["overlays"]}}
    plan = make_plan(parse_params(params({"toy/tables/main": spec})))["toy"]
    with pytest.raises(JebmError, match=r"toy.tables.main.where.set: 'overlays' was not measured; did you mean 'overl"):
        render(plan, "main")


def test_metrics_come_back_with_empty_columns(results):
    found = load_metrics(PLAN)
    assert found[found.variant == "real-data"].seed.isna().all()
    assert set(found.seed.dropna()) == {0, 1}
    assert set(found[found.metric == "fd"].set) == {""}


def test_a_time_by_the_clock_is_refused():
    with pytest.raises(ParamsError, match=r"'seconds_prior' is a time by the clock, which differs between runs"):
        parse_params(params({"toy/tables/main/metrics": ["fd", "seconds_prior"]}))


def test_every_metric_is_described():
    assert all(metric.better in (-1, 0, 1) for metric in METRICS.values())


def test_a_table_of_scores_per_variant_of_which_nothing_is_measured_yet_has_empty_cells(monkeypatch, tmp_path):
    """An empty list of booleans is a list of columns for pandas."""
    monkeypatch.chdir(tmp_path)
    spec = {
        "metrics": ["auroc"],
        "variants": ["gaussian"],
        "columns": ["set", "score"],
        "scores": {"gaussian": ["elbo"]},
    }
    plan = make_plan(parse_params(params({"toy/tables/main": spec})))["toy"]
    assert "A preview: 0 of" in preview(plan, "main")
