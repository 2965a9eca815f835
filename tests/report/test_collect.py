"""Collecting the records of all runs."""

import json

import pytest
from toy import params

from jebm.config.read import parse_params
from jebm.errors import JebmError
from jebm.io.files import write_json
from jebm.metrics.records import MetricRecord
from jebm.pipeline.study import make_plan
from jebm.report.collect import collect
from jebm.report.frame import COLUMNS, load_metrics
from jebm.report.timings import measured, record, timing_table

HEADLINE = {
    "fd_both": {"variants": ["joint", "joint-k40"], "metric": "fd"},
    "auroc": {"variants": ["joint"], "metric": "auroc", "set": "patches", "score": "f"},
    "kd": {"variants": ["joint"], "metric": "kd"},
}
PLAN = make_plan(parse_params(params({"toy/headline": HEADLINE})))["toy"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Records as the evaluations leave them: fd of a variant is 10 × its number + the seed."""
    monkeypatch.chdir(tmp_path)
    for number, variant in enumerate(PLAN.variants.values()):
        for seed in PLAN.seeds:
            record = MetricRecord(seed)
            protocol = record.protocol("fd", {"a": 1})
            record.add("fd", 10 * number + seed, 100, protocol)
            record.save(variant.sample_metrics.run_folder(seed) / "metrics.json")
            record = MetricRecord(seed)
            record.add("elbo", -1.0 / 3, 500, record.protocol("iw", {"b": 2}))
            record.add("auroc", 0.5, 60, "p@1", interval=(0.4, 0.6), set="patches", score="f")
            record.time("posterior_seconds", 1.5 + seed, set="cold", step=20)
            record.save(variant.density_metrics.run_folder(seed) / "metrics.json")
    for _, _, kind, path in PLAN.record_files():
        write_json(path, {"seconds": 2.0, "parameters": 7, "kind": kind})
    record = MetricRecord(None)
    record.add("fd", 0.5, 1097, record.protocol("fd", {"a": 1}))
    record.save(PLAN.variants["joint"].floor.folder / "metrics.json")
    return tmp_path


def test_each_variant_gets_the_values_of_its_own_samples(study):
    collect(PLAN)
    frame = load_metrics(PLAN)
    fd = {(row.variant, row.seed): row.value for row in frame[frame.metric == "fd"].dropna(subset="seed").itertuples()}
    assert fd == {(v, s): 10 * i + s for i, v in enumerate(("gaussian", "joint", "joint-k40")) for s in (0, 1)}
    assert len(frame[frame.protocol != "training"]) == 6 + 6 + 6 + 1
    assert len(frame[frame.variant == "real-data"]) == 1


def test_headline_numbers_are_means_with_the_digits_of_the_tables(study):
    """fd of joint is 10 and 11, that of joint-k40 20 and 21; nothing measured kd."""
    collect(PLAN)
    assert json.loads((study / "results/toy/metrics.json").read_text()) == {"fd_both": 15.5, "auroc": 0.5}


def test_set_score_and_interval_have_columns_of_their_own(study):
    collect(PLAN)
    lines = (study / "results/toy/metrics.csv").read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert "toy,joint,1,auroc,patches,f,,,0.5,0.4,0.6,60,p@1" in lines
    assert "toy,joint,1,elbo,,,,,-0.333333333,,,500,iw@" in "\n".join(lines)


def test_values_keep_nine_digits_and_protocols_their_facts(study):
    collect(PLAN)
    assert "-0.333333333" in (study / "results/toy/metrics.csv").read_text()
    protocols = json.loads((study / "results/toy/protocols.json").read_text())
    assert sorted(protocols.pop("training")) == ["about"]
    assert sorted(protocols.values(), key=str) == [{"a": 1}, {"b": 2}]


def test_collecting_twice_writes_the_same_bytes(study):
    files = [study / "results/toy" / name for name in ("metrics.csv", "metrics.json", "protocols.json")]
    collect(PLAN)
    first = [file.read_bytes() for file in files]
    collect(PLAN)
    assert [file.read_bytes() for file in files] == first


def test_missing_record_names_the_file(study):
    path = PLAN.variants["joint"].density_metrics.run_folder(1) / "metrics.json"
    path.unlink()
    with pytest.raises(JebmError, match=str(path)):
        collect(PLAN)


def test_sizes_are_collected_and_what_the_clock_measured_is_not(study):
    collect(PLAN)
    text = (study / "results/toy/metrics.csv").read_text()
    assert "seconds" not in text
    rows = text.splitlines()
    assert "toy,joint,1,parameters_prior,,,,,7,,,1,training" in rows
    assert not [row for row in rows if row.startswith("toy,gaussian") and "_prior" in row]  # it has nothing to train


def test_times_by_the_clock_are_read_from_the_runs(study):
    table = timing_table(PLAN, measured(PLAN)).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table if line.startswith("|")]
    assert ["joint", "stage 2, s", "", "", "2.0 ± 0.0", "2"] in cells
    assert ["gaussian", "seconds", "cold", "20", "2.0 ± 0.7", "2"] in cells
    assert not (study / "results").exists()
    assert record(PLAN).read_text().splitlines() == table
