"""What jobs ask a scheduler for: from records where there are any, otherwise from their parameters."""

import json
from pathlib import Path

import pytest
import yaml
from toy import params
from toy_jobs import only, toy_jobs

from jebm.errors import JebmError
from jebm.pipeline import resources
from jebm.pipeline.freshness import Status
from jebm.pipeline.resources import Request, request, work
from jebm.pipeline.workflow import PLANNED, SIGNAL, Workflow
from jebm.report.cost import request_table


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """An empty working folder in which no run is recorded."""
    monkeypatch.chdir(tmp_path)
    resources._runs.cache_clear()
    yield
    resources._runs.cache_clear()


def record(job, seconds: float, peak: float | None = None, **parameters) -> None:
    """The record of a run of a job, or of one like it with other blocks of parameters."""
    path = Path(job.provenance)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"parameters": job.parameters | parameters, "seconds": seconds} | ({"peak_mib": peak} if peak else {})
    path.write_text(json.dumps(content), encoding="utf-8")
    resources._runs.cache_clear()


def trained(changes=None, end="seed0"):
    return only(toy_jobs(changes), "train_prior", end)


def test_another_seed_of_the_stage_says_how_long_and_how_large():
    record(trained(end="seed1"), 600.0, 1000.0)
    asked = request(trained())
    assert asked == Request(
        threads=1, gpus=0, mem_mb=1500, minutes=25, whole=25, source="recorded"
    )  # 2 × 10 + 5; 1.3 × 1000 + 200


def test_a_longer_training_is_scaled_from_a_shorter_one():
    record(trained(), 600.0, 1000.0)
    longer = request(trained({"toy/train_prior/steps": 40}))
    assert (longer.source, longer.minutes, longer.mem_mb) == ("scaled", 85, 1500)
    assert request(trained({"toy/train_prior/steps": 5})).minutes == 25, (
        "not scaled down: some of the time does not depend on steps"
    )


def test_runs_of_another_backbone_say_nothing():
    record(trained(), 6000.0, 9000.0)
    assert request(trained({"toy/backbone/latent_dims": [8, 4]})).source == "shapes"


def test_without_records_shapes_decide():
    small, large = trained(), trained({"toy/train_prior/steps": 10**7})
    assert request(small).source == request(large).source == "shapes"
    assert request(small).minutes == 16
    assert request(large, longest=2000).minutes == 2000
    assert work(large.parameters, "train_prior") == 10**7 * 8 * 6, "steps × batch × (chain steps + 1)"


def test_memory_without_records_grows_with_the_batch():
    assert request(trained({"toy/train_prior/batch_size": 10**5})).mem_mb > request(trained()).mem_mb + 40_000


def test_several_gpus_ask_for_the_memory_of_their_processes():
    several = {"toy/compute": {"device": "cuda", "devices": 2, "threads": 3}}
    one, two = request(trained({"toy/compute": {"device": "cuda"}})), request(trained(several))
    assert (one.gpus, two.gpus, two.threads) == (1, 2, 6)
    assert two.mem_mb > one.mem_mb + 5000


def test_further_attempts_ask_for_more_but_not_without_end():
    asked = Request(threads=1, gpus=0, mem_mb=1500, minutes=100, whole=100, source="shapes")
    assert [asked.at_attempt(n, 300).mem_mb for n in (1, 2, 3, 10)] == [1500, 2250, 3000, 3000]
    assert [asked.at_attempt(n, 300).minutes for n in (1, 2, 3, 10)] == [100, 150, 200, 300]


def test_the_plan_sums_core_hours_and_gpu_hours():
    jobs = toy_jobs({"toy/compute": {"device": "cuda", "threads": 2}})
    for job in jobs.values():
        record(job, 0.0, 800.0)
    table = request_table([Status(job) for job in jobs.values()], longest=1440).splitlines()
    (row,) = [line.split() for line in table if line.startswith("train_backbone")]
    assert row[1:] == ["2", "2", "1", "1250", "5", "0.33", "0.17", "recorded"]
    total = next(line.split() for line in table if line.startswith("total"))
    assert float(total[-1]) < float(total[-2])


def test_the_plan_counts_all_attempts_of_a_long_training():
    jobs = toy_jobs({"toy/train_prior/steps": 10**7})
    whole = request(next(job for job in jobs.values() if job.rule == "train_prior")).whole
    table = request_table([Status(job) for job in jobs.values()], longest=60).splitlines()
    (row,) = [line.split() for line in table if line.startswith("train_prior ")]
    assert row[5] == "60"
    assert float(row[6]) == pytest.approx(int(row[1]) * whole / 60, abs=0.01)
    assert any(line.startswith(f"train_prior: one job takes about {-(-whole // 60)} attempts of 60") for line in table)


@pytest.fixture
def workflow(tmp_path, monkeypatch):
    """Makes what the Snakefile asks, for the toy study on GPUs."""
    monkeypatch.setenv(PLANNED, "elsewhere")  # decides nothing about freshness

    def make(**runtime) -> Workflow:
        changes = {"toy/compute": {"device": "cuda", "devices": 2}, "runtime": runtime}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params(changes)), encoding="utf-8")
        return Workflow()

    return make


def test_a_limit_below_a_request_is_an_error_and_is_no_limit_of_first_attempts(workflow):
    flow = workflow()
    job = only(flow.jobs, "train_backbone", "seed0")
    asked = flow.asks(job, "mem_mb", 1)
    assert flow.asks(job, "mem_mb", 1, asked) == asked
    assert flow.asks(job, "mem_mb", 3, asked) == asked, "a further attempt takes what there is"
    assert flow.asks(job, "mem_mb", 3) == 2 * asked
    with pytest.raises(JebmError, match=r"asks for gpu=2, but this run is limited to 1; allow .* --resources gpu=2"):
        flow.asks(job, "gpu", 1, 1)


def test_gpus_as_a_text_for_slurm(workflow):
    flow = workflow()
    on_gpus, on_cpus = only(flow.jobs, "train_backbone", "seed0"), only(flow.jobs, "prepare_dataset")
    assert (flow.asks(on_gpus, "gres", 1), flow.asks(on_cpus, "gres", 1)) == ("gpu:2", "")
    assert flow.asks(on_gpus, "extra", 1) == f"{SIGNAL} --gpus-per-node=2"
    assert flow.asks(on_cpus, "extra", 1) == SIGNAL


def test_no_job_asks_for_more_time_than_the_longest(workflow):
    flow = workflow(longest_job=12)
    job = only(flow.jobs, "train_backbone", "seed0")
    assert [flow.asks(job, "runtime", attempt) for attempt in (1, 5)] == [12, 12]
