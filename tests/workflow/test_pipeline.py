"""The real pipeline, from raw data to tables, on a study small enough for a test."""

import json
import re
from pathlib import Path

import pytest
from browser import find_chromium, run_in_page
from measured import name_of

from jebm.report.frame import COLUMNS, read_metrics

NOTHING = "Nothing to be done"


def jobs(dry_run) -> dict[str, int]:
    """Rule → number of jobs, from the job statistics of a dry run."""
    table = dry_run.stdout.partition("Job stats:")[2].partition("\n\n")[0]
    counts = dict(re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE))
    return {rule: int(count) for rule, count in counts.items() if rule not in ("all", "total")}


def edited(space, change):
    """Dry run under changed parameters, which are put back."""
    before = space.read("params.yaml")
    params = space.params()
    change(params["digits"])
    space.write_params(params)
    try:
        return jobs(space.run("snakemake", "-n", "--cores", "1"))
    finally:
        (space.folder / "params.yaml").write_text(before, encoding="utf-8")


def test_the_study_runs_to_the_end_and_prints_its_main_table(tiny):
    assert "| short-run" in tiny.first_run.stdout
    assert "results/digits/figures" in tiny.first_run.stdout
    for name in ("tables/main.md", "tables/main.csv", "tables/main.tex", "figures/samples.png", "figures/samples.pdf"):
        assert (tiny.folder / "results/digits" / name).stat().st_size > 0


def test_metrics_csv_has_a_row_a_value_with_count_and_protocol(tiny):
    text = tiny.read("results/digits/metrics.csv")
    assert text.splitlines()[0] == ",".join(COLUMNS)
    frame = read_metrics(text, "metrics.csv")
    assert set(frame.variant) == {"real-data", "gaussian", "mixture", "short-run", "short-run-density"}
    assert not frame[["study", "variant", "metric", "value", "n", "protocol"]].isna().any().any()
    assert not frame.duplicated(["variant", "seed", "metric", "set", "score"]).any()
    for variant in ("gaussian", "mixture", "short-run", "short-run-density"):
        names = {name_of(row) for row in frame[frame.variant == variant].to_dict("records")}
        assert {"fd", "kd", "iw_bound", "auroc overlay elbo+f", "auprc uniform llr>1", "fpr80 uniform f"} <= names
    protocols = json.loads(tiny.read("results/digits/protocols.json"))
    assert set(frame.protocol) <= set(protocols)
    fd = protocols[frame[frame.metric == "fd"].protocol.iloc[0]]
    assert (fd["reference"], fd["reference_count"], fd["grey_levels"]) == ("test", 500, 17)


def test_a_second_run_has_nothing_to_do(tiny):
    again = tiny.run("snakemake", "--cores", "2")
    assert NOTHING in again.stdout + again.stderr


def test_test_time_steps_redo_sampling_and_what_follows_but_no_training(tiny):
    def more_steps(study):
        study["variants"]["short-run"]["draw_samples"]["sampler"]["steps"] = 5

    rerun = edited(tiny, more_steps)
    assert rerun["draw_samples"] == 1
    assert not {"train_backbone", "train_prior", "train_features", "evaluate_density"} & set(rerun)


def test_a_prior_setting_retrains_the_prior_but_not_the_backbone(tiny):
    def wider(study):
        study["prior"]["energy"]["hidden"] = 16

    rerun = edited(tiny, wider)
    assert rerun["train_prior"] == 1  # joint; the mixture is another prior
    assert not {"train_backbone", "train_features", "prepare_dataset"} & set(rerun)


def test_runtime_settings_redo_nothing(tiny):
    before = tiny.read("params.yaml")
    params = tiny.params()
    params["runtime"]["checkpoint_seconds"] = 7
    tiny.write_params(params)
    dry = tiny.run("snakemake", "-n", "--cores", "1")
    (tiny.folder / "params.yaml").write_text(before, encoding="utf-8")
    assert NOTHING in dry.stdout + dry.stderr


def test_metrics_agree_to_the_last_digit_on_one_core_and_without_the_fork_server(tiny, new_tiny, tmp_path_factory):
    other = new_tiny(tmp_path_factory.mktemp("one-core"))
    params = other.params()
    params["runtime"]["fork_server"] = False
    other.write_params(params)
    other.run("snakemake", "--cores", "1", "results/digits/metrics.csv")
    assert not (other.folder / "logs/server.log").exists()
    assert other.read("results/digits/metrics.csv") == tiny.read("results/digits/metrics.csv")


def test_the_report_is_one_file_without_a_network(tiny):
    tiny.run("snakemake", "--report", "report.html")
    page = tiny.read("report.html")
    assert "runs/render_table/digits/main.html" in page
    assert not re.search(r"<(script|link)[^>]+(src|href)=[\"']https?://", page)
    front = tiny.read(".jebm/cache/report.rst")
    assert "<h3>digits: Priors on the same two-layer generator" in front
    assert "<td>short-run</td>" in front
    assert "data:image/png;base64," in front
    assert ">train_backbone</text>" in front
    assert json.dumps("<td>short-run</td>")[1:-1] in page or "<td>short-run</td>" in page


@pytest.mark.skipif(not find_chromium(), reason="no Chromium here: install one, or name its program in JEBM_CHROMIUM")
def test_a_reader_of_the_report_sees_every_table_and_figure(tiny, tmp_path):
    """In headless Chromium without a network, by a click on every entry."""
    tiny.run("snakemake", "--report", "report.html")
    script = (Path(__file__).parents[1] / "support/click_report.js").read_text(encoding="utf-8")
    seen = run_in_page(tiny.folder / "report.html", script, tmp_path)
    assert seen["front"]["images"] == 1
    assert seen["front"]["cells"] > 10
    entries = {entry["label"].partition(":")[0]: entry for entry in seen["entries"]}
    assert set(entries) == {"main", "detection-auroc", "samples", "langevin-steps"}
    assert all(entry["image"] == (entry["subcategory"] == "figures") for entry in entries.values())
    assert all(entry["cells"] > 5 for entry in entries.values() if not entry["image"])
