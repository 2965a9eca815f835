"""GPUs are assigned to jobs: each has its own, also after it became torchrun, and until it has ended."""

import os
import signal
import subprocess
import sys
import time

import pytest

from jebm.errors import SettingError
from jebm.runtime.gpus import assign_gpus, visible_gpus

JOB = """
import os, sys, time
from jebm.runtime.gpus import assign_gpus
chosen = assign_gpus("cuda", int(sys.argv[1]), int(sys.argv[2]))
print(",".join(chosen), os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
if len(sys.argv) > 3:
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a job on a machine with two GPUs, which ends with the test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    jobs = []

    def job(count: int = 1, jobs_per_gpu: int = 1, *more: str) -> subprocess.Popen:
        command = [sys.executable, "-c", JOB, str(count), str(jobs_per_gpu), *more]
        jobs.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return jobs[-1]

    yield job
    for one in jobs:
        one.kill()
        one.communicate()


def test_each_job_has_a_gpu_of_its_own_and_sees_no_other(start):
    lines = [start().stdout.readline().split() for _ in range(2)]
    assert sorted(lines) == [["4", "4"], ["7", "7"]]


def test_a_third_job_waits_until_a_killed_one_has_ended(start):
    first, second = start(), start()
    freed = first.stdout.readline().split()[0]
    second.stdout.readline()
    third = start()
    assert third.stderr.readline() == "waiting for 1 of the GPUs 4, 7, which other jobs use\n"
    first.send_signal(signal.SIGKILL)
    assert third.stdout.readline().split()[0] == freed


def test_a_job_that_became_another_program_keeps_its_gpus(start):
    first = start(2, 1, "exec")
    assert first.stdout.readline().split() == ["4,7", "4,7"]
    time.sleep(0.5)
    assert "waiting" in start().stderr.readline()


def test_jobs_share_a_gpu_where_that_is_asked_for(start):
    lines = [start(1, 2).stdout.readline().split()[0] for _ in range(4)]
    assert lines == ["4", "7", "4", "7"]


def test_batch_jobs_number_their_gpus_by_themselves(start, monkeypatch):
    start().stdout.readline()
    start().stdout.readline()
    monkeypatch.setenv("SLURM_JOB_ID", "3")
    assert start().stdout.readline().split()[0] == "4"


def test_more_gpus_than_there_are_is_one_line(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(SettingError, match=r"compute.devices: asks for 3 GPUs, but this job is offered 2 \(0, 1\)"):
        assign_gpus("cuda", 3)


def test_an_indexed_gpu_is_that_one(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert assign_gpus("cuda:1", 1) == ["7"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"


@pytest.mark.parametrize("value", ["", "-1"])
def test_no_gpus(monkeypatch, value):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == []
    assert assign_gpus("cuda", 1) == []
