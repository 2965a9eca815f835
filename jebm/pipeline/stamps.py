"""Tells Snakemake which results are fresh, without touching any result.

Snakemake decides by file times. Each job has one *stamp*, a small file below ``.jebm/cache/stamps``. It is the only
input of its rule whose time counts; all other inputs are ``ancient()``. The stamp of a fresh result is older than any
other file, the stamp of a stale result is newer than all outputs of the job. Snakemake treats a newer file smaller than
``max-checksum-file-size`` as unchanged if it knows its content; therefore the stamp of a stale result never has the
content of an earlier stamp.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from jebm.pipeline.jobs import Job

OLD = 1
"""Time of the stamp of a fresh result, seconds."""


def write_stamps(fresh: Iterable[tuple[Job, bool]]) -> None:
    """Update the stamps of jobs, given as (job, whether its result is fresh). Only the process that plans the jobs may
    do this."""
    now = time.time_ns()
    for job, is_fresh in fresh:
        if is_fresh:
            _age(Path(job.stamp))
        else:
            _renew(Path(job.stamp), job.outputs, now)


def age_stamp(job: Job) -> None:
    """Mark a job's result as fresh, after the job."""
    _age(Path(job.stamp))


def _age(stamp: Path) -> None:
    time_of = _mtime(stamp)
    if time_of is None:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    if time_of != OLD * 10**9:
        os.utime(stamp, (OLD, OLD))


def _renew(stamp: Path, outputs: Iterable[str], now: int) -> None:
    newest = max((time_of for path in outputs if (time_of := _mtime(Path(path))) is not None), default=0)
    time_of = _mtime(stamp)
    if time_of is not None and time_of > max(newest, OLD * 10**9):
        return
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(os.urandom(8).hex(), encoding="utf-8")
    when = max(now, newest + 10**9)  # outputs may have any time, even one in the future
    os.utime(stamp, ns=(when, when))


def _mtime(path: Path) -> int | None:
    """The later modification time of a file and of what it links to, nanoseconds; Snakemake looks at both."""
    try:
        return max(os.stat(path).st_mtime_ns, os.lstat(path).st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return None
