"""jebm status: what is done, what runs and how far it is, what was stopped, what is left."""

import json
import os
import socket
import stat
import subprocess
import sys

import pytest
from toy_jobs import Worker, only, toy_jobs

from jebm.io.digests import DigestCache
from jebm.pipeline.freshness import statuses
from jebm.pipeline.results import _mark_of, exclusive
from jebm.report.status import log_of, queue, status_table


@pytest.fixture
def jobs(code):
    """The jobs of the toy study in an empty folder, its dataset prepared."""
    found = toy_jobs()
    Worker()(only(found, "prepare_dataset"))
    return found


def table(jobs) -> list[str]:
    return status_table("toy", statuses(jobs.values(), DigestCache())).splitlines()


def write_log(job, text: str) -> None:
    log_of(job).parent.mkdir(parents=True, exist_ok=True)
    log_of(job).write_text(text, encoding="utf-8")


PROGRESS = "toy: step 5/10, 3 s elapsed, about 7 s left\ntoy: step 8/10, 5 s elapsed, about 200 s left\n"


def test_before_anything_runs_all_is_left(jobs):
    lines = table(jobs)
    assert lines[0] == f"toy: 1 of {len(jobs)} jobs done, 0 running, {len(jobs) - 1} left"
    assert "train_backbone × 2" in lines[-1]


def test_a_running_training_says_how_far_it_is_and_where(jobs, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    training = only(jobs, "train_backbone", "seed0")
    write_log(training, PROGRESS)
    with exclusive(training):
        lines = table(jobs)
    (line,) = [line for line in lines if line.startswith("  running")]
    assert training.name in line
    assert "step 8/10, about 3 min left" in line
    assert f"({socket.gethostname()}, Slurm job 42, for " in line
    assert not any(line.startswith("  running") for line in table(jobs)), "it has ended"


def test_a_training_that_was_killed_does_not_run(jobs):
    training = only(jobs, "train_backbone", "seed0")
    with exclusive(training):
        mark = json.loads(_mark_of(training).read_text(encoding="utf-8"))
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    _mark_of(training).write_text(json.dumps(mark | {"pid": process.pid}), encoding="utf-8")
    folder = os.path.join(training.state, "state.pt")
    os.makedirs(training.state)
    open(folder, "w").close()
    write_log(training, PROGRESS)
    lines = table(jobs)
    assert (
        f"  stopped  train_backbone {training.name}: step 8/10, about 3 min left; goes on from a saved state" in lines
    )


def test_a_silent_job_elsewhere_is_named(jobs):
    training = only(jobs, "train_backbone", "seed0")
    with exclusive(training):
        mark = json.loads(_mark_of(training).read_text(encoding="utf-8")) | {"host": "elsewhere"}
        mark["started"] -= 7200
        _mark_of(training).write_text(json.dumps(mark), encoding="utf-8")
        (line,) = [line for line in table(jobs) if line.startswith("  running")]
    assert "nothing heard for 2.0 h" in line


def test_the_queue_of_slurm(tmp_path, monkeypatch):
    tool = tmp_path / "squeue"
    tool.write_text("#!/bin/sh\necho '7|PENDING|jebm|2027-01-01T00:00:00|(Resources)'\necho '8|RUNNING|other|x|n1'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert queue() == ("Slurm: 1 pending\n  allocation 7 waits (Resources); expected start 2027-01-01T00:00:00")
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert "does not answer" in queue()
    tool.write_text("#!/bin/sh\necho 'squeue: fatal: Could not establish a configuration source' >&2\nexit 1\n")
    assert queue() == "", "commands of Slurm without a cluster are no news"
