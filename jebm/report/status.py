"""What a study's jobs are doing: which are done, which run and how far they are, which were stopped, what is left.

Reads files only, so it works from any machine that sees the folder, while the study runs elsewhere.
"""

import os
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

from jebm.pipeline.freshness import Status
from jebm.pipeline.jobs import Job
from jebm.pipeline.results import running_mark

PROGRESS = re.compile(r"(\w+) (\d+)/(\d+), \d+ s elapsed, about (\d+) s left")
SILENT = 600
"""Seconds after which a job on another machine that has written nothing to its log may be dead."""


def status_table(name: str, found: list[Status]) -> str:
    """The state of the jobs of a study, with a line for each that runs or was stopped."""
    done = [status.job for status in found if status.fresh]
    open_jobs = [status.job for status in found if not status.fresh]
    lines = {job.provenance: _running(job) for job in open_jobs}
    running = [job for job in open_jobs if lines[job.provenance]]
    stopped = [job for job in open_jobs if job not in running and job.state and any(Path(job.state).glob("*.pt"))]
    left = [job for job in open_jobs if job not in running]
    text = [f"{name}: {len(done)} of {len(found)} jobs done, {len(running)} running, {len(left)} left"]
    text += [f"  running  {job.rule} {job.name}: {lines[job.provenance]}" for job in running]
    text += [f"  stopped  {job.rule} {job.name}: {progress(job)}; goes on from a saved state" for job in stopped]
    if left:
        counts = Counter(job.rule for job in left)
        text.append("  left     " + ", ".join(f"{rule} × {count}" for rule, count in counts.items()))
    return "\n".join(text)


def outdated_studies(every: list[Status]) -> list[str]:
    """The studies that have a ``metrics.csv`` which does not come from the present parameters and code."""
    stale = [status.job for status in every if status.job.rule == "collect_metrics" and not status.fresh]
    return [job.study for job in stale if any(Path(path).exists() for path in job.outputs)]


def progress(job: Job) -> str:
    """How far a job is, by the last line of progress in its log."""
    try:
        found = PROGRESS.findall(log_of(job).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        found = []
    if not found:
        return "no progress yet"
    what, count, total, left = found[-1]
    return f"{what} {count}/{total}, about {_duration(float(left))} left"


def log_of(job: Job) -> Path:
    """The log that the rule of a stage's job writes."""
    return Path("logs") / job.rule / f"{job.name.replace('/', '-')}.log"


def queue() -> str:
    """What Slurm has queued of this project for this user; empty where there is no Slurm, or only its commands."""
    if not shutil.which("squeue"):
        return ""
    command = ["squeue", "--noheader", "--me", "--format", "%i|%T|%j|%S|%R"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError) as error:
        if "configuration source" in (getattr(error, "stderr", None) or ""):
            return ""  # the commands are installed, but no cluster is configured
        return "Slurm: its controller does not answer at the moment"
    jobs = [line.split("|") for line in listed.splitlines() if line.count("|") == 4]
    own = [job for job in jobs if job[2].startswith("jebm")]
    if not own:
        return "Slurm: no job of jebm is queued"
    states = Counter(state.lower() for _, state, *_ in own)
    text = ["Slurm: " + ", ".join(f"{count} {state}" for state, count in states.items())]
    pilots = [job for job in own if job[2] == "jebm" and job[1] == "PENDING"]
    text += [
        f"  allocation {id} waits ({reason.strip('()')}); expected start {start}" for id, _, _, start, reason in pilots
    ]
    return "\n".join(text)


def _running(job: Job) -> str:
    """How far a running job is, and where it runs; empty if it does not run."""
    mark = running_mark(job)
    if mark is None:
        return ""
    here = mark["host"] == socket.gethostname()
    if here and not _alive(mark["pid"]):
        return ""
    where = mark["host"] + (f", Slurm job {mark['slurm']}" if mark["slurm"] else "")
    silence = "" if here else _silence(job, mark["started"])
    return f"{progress(job)} ({where}, for {_duration(time.time() - mark['started'])}{silence})"


def _silence(job: Job, started: float) -> str:
    try:
        last = max(log_of(job).stat().st_mtime, started)
    except OSError:
        last = started
    quiet = time.time() - last
    return f"; nothing heard for {_duration(quiet)}" if quiet > SILENT else ""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _duration(seconds: float) -> str:
    seconds = int(seconds)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
