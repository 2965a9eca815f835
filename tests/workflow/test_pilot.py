"""The script of an allocation, with stand-ins for Snakemake and Slurm: what it passes on, and when it queues itself."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "workflow/pilot.sh"
PROGRAMS = {
    # It runs until SIGTERM, as Snakemake does with the profile, and saves a state where it is told to.
    "snakemake": "echo \"$@\" > asked; trap '[ -e saves ] && touch runs/state; exit 1' TERM; "
    "touch started; while [ -e waits ]; do /bin/sleep 0.05; done",
    "scontrol": 'echo "$@" >> slurm; cat state',
    "sleep": "exit 0",
}


@pytest.fixture
def pilot(tmp_path):
    """Runs the script in a folder with some variables; with ``stopped`` it gets SIGTERM while Snakemake runs."""
    for name, script in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "runs").mkdir()
    (tmp_path / "state").write_text("JobState=RUNNING PreemptTime=None", encoding="utf-8")

    def run(stopped=False, **variables):
        if stopped:
            (tmp_path / "waits").touch()
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "JEBM_"))}
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        process = subprocess.Popen(
            ["bash", SCRIPT, "core"], cwd=tmp_path, env={**clean, "PATH": path, **variables},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if stopped:
            while not (tmp_path / "started").exists():
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[0]
        slurm = tmp_path / "slurm"
        return process.returncode, said, slurm.read_text(encoding="utf-8") if slurm.exists() else ""

    run.folder = tmp_path
    return run


@pytest.mark.parametrize(
    ("variables", "cores", "limits"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4", "SLURM_MEM_PER_NODE": "8192"}, "4", "mem_mb=8192 gpu=0"),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "16", "SLURM_GPUS_ON_NODE": "2"}, "16", "gpu=2"),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "3", "SLURM_MEM_PER_CPU": "2000"}, "3", "mem_mb=6000 gpu=0"),
        ({"JEBM_CORES": "8", "JEBM_LIMITS": "mem_mb=9000 gpu=1"}, "8", "mem_mb=9000 gpu=1"),
        ({}, "1", "gpu=0"),
    ],
)
def test_snakemake_gets_what_the_allocation_has(pilot, variables, cores, limits):
    status, _, slurm = pilot(**variables)
    asked = (pilot.folder / "asked").read_text(encoding="utf-8").strip()
    assert asked == f"--workflow-profile profiles/slurm-pilot --cores {cores} --resources {limits} -- core"
    assert (status, slurm) == (0, "")


def test_it_queues_itself_again_if_a_state_was_saved(pilot):
    (pilot.folder / "saves").touch()
    status, said, slurm = pilot(stopped=True, SLURM_JOB_ID="7")
    assert status == 75
    assert "queues itself again" in said
    assert slurm.splitlines() == ["show job 7", "requeue 7"]


def test_it_stays_away_if_another_allocation_would_not_get_further(pilot):
    status, said, slurm = pilot(stopped=True, SLURM_JOB_ID="7")
    assert status == 75
    assert "error: no job was finished and no state saved within the wall time" in said
    assert slurm.splitlines() == ["show job 7"]


def test_a_preempted_one_comes_back_in_any_case(pilot):
    (pilot.folder / "state").write_text("JobState=RUNNING PreemptTime=2030-01-01T00:00:00", encoding="utf-8")
    assert pilot(stopped=True, SLURM_JOB_ID="7")[2].splitlines() == ["show job 7", "requeue 7"]


def test_a_cancelled_one_stays_away(pilot):
    (pilot.folder / "saves").touch()
    (pilot.folder / "state").write_text("JobState=CANCELLED PreemptTime=None", encoding="utf-8")
    assert pilot(stopped=True, SLURM_JOB_ID="7")[2].splitlines() == ["show job 7"]


def test_in_a_pod_it_only_says_that_it_can_go_on(pilot):
    assert pilot(stopped=True, JEBM_CORES="2")[::2] == (75, "")
