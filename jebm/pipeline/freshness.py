"""Fresh or not, by content: what a job's outputs were made from, against what is there now.

Every job leaves a provenance record beside its outputs: parameters, a digest of each module of its code, and the sha256
of every input and output. Outputs are fresh when all of that still agrees; no clock is asked.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from jebm.config.read import PARAMS
from jebm.errors import JebmError
from jebm.io.digests import DigestCache, digest
from jebm.io.files import write_json
from jebm.pipeline.code_digest import code_fingerprint
from jebm.pipeline.jobs import Job

LOCKS = Path(".jebm/locks")
SECOND = 1_000_000_000
"""In nanoseconds, the unit of file times."""


@dataclass
class Status:
    """What is known of one job's outputs."""

    job: Job
    moved: list[str]
    """A line a part that moved since the outputs were made; empty when they are fresh by themselves."""
    follows: list[str]
    """Stale inputs: names of outputs of jobs that have to run first."""
    seconds: float | None
    """How long the job took when it made the outputs that are there."""

    @property
    def fresh(self) -> bool:
        return not self.moved and not self.follows


def statuses(jobs: Iterable[Job], digests: DigestCache) -> list[Status]:
    """The status of each job; jobs come after those that they read from."""
    stale: set[str] = set()
    result = []
    for job in jobs:
        moved, seconds = _moved(job, digests)
        follows = sorted(path for path in job.inputs if path in stale)
        status = Status(job, moved, follows, seconds)
        if not status.fresh:
            stale.update(job.outputs)
        result.append(status)
    return result


def _moved(job: Job, digests: DigestCache) -> tuple[list[str], float | None]:
    missing = [path for path in job.outputs if not Path(path).exists()]
    if missing:
        return [f"missing: {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")], None
    try:
        record = json.loads(Path(job.provenance).read_text(encoding="utf-8"))
        lines = [
            *_differences("parameters", record["parameters"], job.parameters),
            *_code(record["code"], code_fingerprint(job.entries)),
            *_inputs(record, job, digests),
            *_outputs(record, digests),
        ]
        return lines, record["seconds"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return [f"unknown: {job.provenance} is not a record of jebm"], None


def _differences(what: str, old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for part in sorted({*old, *new}):
            lines += _differences(what, old.get(part), new.get(part), f"{key}.{part}" if key else part)
        return lines
    return [] if old == new else [f"{what}: {key} was {json.dumps(old)}, is {json.dumps(new)}"]


def _code(old: dict[str, str], new: dict[str, str]) -> list[str]:
    lines = []
    for name in sorted({*old, *new}):
        if old.get(name) == new.get(name):
            continue
        if name.startswith("package "):
            lines.append(f"code: {name} was {old.get(name, 'not used')}, is {new.get(name, 'not used')}")
        else:
            state = "edited" if name in old and name in new else "no longer used" if name in old else "newly used"
            lines.append(f"code: {name} {state}")
    return lines


def _inputs(record: dict, job: Job, digests: DigestCache) -> list[str]:
    old, lines = record["inputs"], []
    if set(old) != set(job.inputs):
        explained = _differences("parameters", record["context"], job.context)
        gone, new = sorted(set(old) - set(job.inputs)), sorted(set(job.inputs) - set(old))
        lines += explained or [f"data: reads {', '.join(new) or 'fewer files'} instead of {', '.join(gone) or 'fewer'}"]
    for path in job.inputs:
        if path in old and (now := digests(path)) != old[path]:
            state = "is missing" if now is None else f"has other content ({old[path][:8]}… → {now[:8]}…)"
            lines.append(f"data: {path} {state}")
    return lines


def _outputs(record: dict, digests: DigestCache) -> list[str]:
    return [
        f"data: {path} is not what the job made ({old[:8]}… → {now[:8]}…)"
        for path, old in record["outputs"].items()
        if (now := digests(path)) is not None and now != old
    ]


def settle(statuses: Iterable[Status], digests: DigestCache) -> None:
    """Give outputs the times from which Snakemake, which asks only those, reads the same as we read from contents.

    Fresh outputs are made no older than any input, stale ones older than some input. Contents are not touched. The
    training state behind a fresh result has served its purpose and is removed.
    """
    statuses = list(statuses)
    for status in statuses:
        if status.fresh and status.job.state:
            shutil.rmtree(status.job.state, ignore_errors=True)
    # Files of equal content may be links to one object, and share its time: repeat until nothing moves.
    for _ in range(len(statuses)):
        moved = sum(_settle_one(status, digests) for status in statuses)
        if not moved:
            return


def _settle_one(status: Status, digests: DigestCache) -> bool:
    """Put the times of one job's outputs in order; returns whether any had to move."""
    # A job that reads no file waits for params.yaml in the workflow, so that Snakemake has something to ask.
    inputs = [max(_times(path)) for path in status.job.inputs or (str(PARAMS),) if os.path.exists(path)]
    outputs = {path: min(_times(path)) for path in status.job.outputs if os.path.exists(path)}
    if not inputs or not outputs:
        return False
    newest = max(inputs)
    if status.fresh:
        late = [path for path, time in outputs.items() if time < newest]
        for path in late:
            digests.set_time(path, newest)
        return bool(late)
    if status.moved and min(outputs.values()) >= newest:
        for path in outputs:
            digests.set_time(path, newest - SECOND)
    return False


def _times(path: str) -> tuple[int, int]:
    """Modification times of a file and of the link that leads to it, nanoseconds; Snakemake looks at both."""
    return os.stat(path).st_mtime_ns, os.lstat(path).st_mtime_ns


@contextmanager
def _alone(job: Job):
    """Refuse to work on a job on which another process is working; a killed process holds nothing."""
    path = LOCKS / f"{digest(job.provenance)}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        name = f"{job.rule} {job.study} {job.name}".strip()
        raise JebmError(
            f"{name}: another process is already working on this; let it finish, or stop it first"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def unrecorded(job: Job):
    """Around a job's work in a process that leaves the record to another one: the same facts, and nothing else."""
    yield {"code": digest(code_fingerprint(job.entries))}


@contextmanager
def recorded(job: Job):
    """Around a job's work: afterwards its provenance record is written beside its outputs.

    What the job depends on is read before it starts, so that an edit meanwhile is noticed later.
    """
    digests, started = DigestCache(), time.monotonic()
    inputs, code = {path: digests(path) for path in job.inputs}, code_fingerprint(job.entries)
    facts: dict[str, Any] = {"code": digest(code)}
    with _alone(job):
        yield facts
    outputs = {path: digests(path) for path in job.outputs if path != job.provenance}
    digests.save_large()
    write_json(
        Path(job.provenance),
        {
            "rule": job.rule,
            "parameters": job.parameters,
            "context": job.context,
            "code": code,
            "inputs": inputs,
            "outputs": outputs,
            "seconds": round(facts.get("seconds", time.monotonic() - started), 2),
        },
    )
