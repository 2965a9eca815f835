"""Status checks of the real plugin of Slurm, against programs that answer as Slurm does in states that a real one does
not give on request."""

import asyncio
import logging
import os
from types import SimpleNamespace

import pytest

from jebm.pipeline.slurm_status import repair_status_checks

plugin = pytest.importorskip("snakemake_executor_plugin_slurm")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder whose files ``state`` and ``outage`` say what the programs answer; ``asked`` lists what was called."""
    programs = {
        "squeue": 'test -e outage && exit 1; echo "7|$(cat state)"',
        "scontrol": "test -e outage && exit 1; echo MinJobAge = 300 sec",
        "sacct": "echo Slurm accounting storage is disabled >&2; exit 1",
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\ncd {tmp_path}\necho {name} >> asked\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for function in ("get_min_job_age", "query_job_status"):
        monkeypatch.setattr(plugin, function, getattr(plugin, function))  # so that the repair ends with the test
    repair_status_checks(plugin)
    return tmp_path


class Unlimited:
    """A rate limiter without a limit."""

    async def __aenter__(self): ...

    async def __aexit__(self, *_): ...


@pytest.fixture
def check():
    """Checks one job once: whether it runs, succeeded or failed."""
    ends, logger = [], logging.getLogger("slurm")
    settings = SimpleNamespace(
        init_seconds_before_status_checks=40, status_attempts=3, keep_successful_logs=True, requeue=False
    )
    executor = SimpleNamespace(
        workflow=SimpleNamespace(executor_settings=settings),
        logger=logger,
        run_uuid="run",
        status_rate_limiter=Unlimited(),
        next_seconds_between_status_checks=40,
        get_status_command=lambda: "squeue",
        report_job_success=lambda job: ends.append("succeeded"),
        report_job_error=lambda job, **about: ends.append("failed"),
        _preemption_warning=False,
        _failed_nodes=set(),
        _status_query_calls=0,
        _status_query_failures=0,
        _status_query_total_seconds=0.0,
        _status_query_min_seconds=None,
        _status_query_max_seconds=0.0,
        _status_query_cycle_rows=[],
    )

    async def once():
        job = SimpleNamespace(external_jobid="7", aux={})
        return ["runs" async for _ in plugin.Executor.check_active_jobs(executor, [job])] + ends

    def run():
        ends.clear()
        return asyncio.run(once())

    return run


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("RUNNING", "runs"),
        ("PENDING", "runs"),
        ("COMPLETED", "succeeded"),
        ("FAILED", "failed"),
        ("PREEMPTED", "failed"),
        ("TIMEOUT", "failed"),
        ("OUT_OF_MEMORY", "failed"),
        ("NODE_FAIL", "failed"),
        ("CANCELLED", "failed"),
    ],
)
def test_each_state_runs_or_ends(slurm, check, state, found):
    """A job that failed is submitted again by Snakemake; one that would be waited for in vain must not "run"."""
    (slurm / "state").write_text(state, encoding="utf-8")
    assert check() == [found]
    assert check() == [found]


def test_an_outage_of_the_controller_loses_no_job(slurm, check):
    """During it the plugin keeps to squeue, which works again afterwards; sacct would never."""
    (slurm / "state").write_text("RUNNING", encoding="utf-8")
    assert check() == ["runs"]
    (slurm / "outage").touch()
    (slurm / "asked").unlink()
    check()
    asked = (slurm / "asked").read_text(encoding="utf-8").split()
    assert asked.count("squeue") == 3
    assert "sacct" not in asked
