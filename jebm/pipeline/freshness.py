"""Freshness by content: the key with which a result was made is compared with the present key of its job.

File times are not used. The contents of files that other jobs make are taken from the records of these jobs, so a
deleted or damaged file affects the job that makes it, not those that read it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jebm.io.digests import DigestCache
from jebm.pipeline.code_digest import code_fingerprint
from jebm.pipeline.jobs import Job
from jebm.pipeline.results import kept_result, key_of, read_record, result_in_place, wrong_outputs

NO_RECORD = "no record says how the files that are there were made"
NOT_MADE = "not made yet"
"""Messages for results without a record: the first if there are files, the second if there are none."""


@dataclass
class Status:
    """What is known about the result of one job."""

    job: Job
    key: str = ""
    """The job's key; empty if an input has yet to be computed."""
    fresh: bool = False
    """Whether the result in place has the key and is complete."""
    kept: bool = False
    """Whether a result with the key is kept while the one in place is not fresh; the job then takes it and ends at
    once."""
    changes: list[str] = field(default_factory=list)
    """What changed since the result in place was made; empty if the job only has to wait for its inputs."""
    stale_inputs: list[str] = field(default_factory=list)
    """Inputs whose content is not known before other jobs have run."""


def statuses(jobs: Iterable[Job], digests: DigestCache, made: dict[str, str | None] | None = None) -> list[Status]:
    """The status of each job; jobs must come after those whose outputs they read.

    Args:
        made: output of a job → its content, None where it has yet to be computed. It is updated; a further call that is
            given it knows the jobs of this one.
    """
    made = {} if made is None else made
    result, code_of = [], cache(code_fingerprint)  # hundreds of jobs have a few sets of modules
    for job in jobs:
        stale = [path for path in job.input_files if made.get(path, "") is None]
        status = Status(job, stale_inputs=stale)
        code, record = code_of(job.entries), None
        contents = {path: made.get(path) or digests(path) for path in job.input_files if path not in stale}
        if not stale:
            status.key = key_of(job, code, contents.__getitem__)
            record = result_in_place(job, status.key, digests)
            status.fresh = record is not None
            record = record or kept_result(job, status.key, digests)
            status.kept = record is not None and not status.fresh
        if not status.fresh:
            status.changes = _changes(job, code, contents, digests)
        made.update({path: record and record["outputs"][Path(path).name] for path in job.outputs[:-1]})
        result.append(status)
    return result


def pending(wanted: Iterable[Status], every: Iterable[Status]) -> list[Status]:
    """The jobs that must run to obtain some results: those that are not fresh, and all stale jobs that they depend on.

    A fresh result needs nothing; the files from which it was made may be missing.
    """
    makers = {path: status for status in every for path in status.job.outputs}
    found: dict[str, Status] = {}

    def visit(status: Status) -> None:
        if status.fresh or status.job.provenance in found:
            return
        for path in status.job.input_files:
            if path in makers:
                visit(makers[path])
        found[status.job.provenance] = status

    for status in wanted:
        visit(status)
    return list(found.values())


def _changes(job: Job, code: dict[str, str], contents: dict[str, str | None], digests: DigestCache) -> list[str]:
    """One line for everything that differs from the record in place."""
    record = read_record(Path(job.provenance))
    if record is None:
        there = any(Path(path).exists() for path in job.outputs)
        return [NO_RECORD] if there else [NOT_MADE]
    lines = [
        *_differences("parameters", record["parameters"], job.parameters),
        *_code(record["code"], code),
        *_inputs(record, job, contents),
    ]
    for path in wrong_outputs(record, job, digests):
        now, old = digests(path), record["outputs"].get(Path(path).name, "nothing")
        lines.append(f"missing: {path}" if now is None else f"{path} is not what the job made ({_short(old, now)})")
    return lines


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


def _inputs(record: dict, job: Job, contents: dict[str, str | None]) -> list[str]:
    old, lines = record["inputs"], []
    if set(old) != set(job.input_files):
        gone, new = sorted(set(old) - set(job.input_files)), sorted(set(job.input_files) - set(old))
        explained = _differences("parameters", record["context"], job.context)
        lines += explained or [f"data: reads {', '.join(new) or 'fewer files'} instead of {', '.join(gone) or 'fewer'}"]
    for path, now in contents.items():
        if path in old and now != old[path]:
            lines.append(
                f"data: {path} " + ("is missing" if now is None else f"has other content ({_short(old[path], now)})")
            )
    return lines


def _short(old: str | None, new: str) -> str:
    return f"{(old or 'nothing')[:8]}… → {new[:8]}…"
