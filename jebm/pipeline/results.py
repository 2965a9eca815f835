"""Finished results, found by their keys.

The key of a job is a digest of its parameters, its code and the contents of its inputs, including external ones. Beside
each result is a provenance record with the key and the SHA-256 of every output. The result is kept under its key in
``.jebm/results``, by hard links, which take no space while the result is in use. A job whose key has been made before
takes the result from there: after an edit was undone, another branch was checked out, DVC restored other files, or an
earlier job ran again with the same output. ``.jebm/results`` may be deleted at any time.
"""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from jebm.errors import JebmError
from jebm.io.digests import DigestCache, digest
from jebm.io.filenames import PROVENANCE
from jebm.io.files import write_json
from jebm.pipeline.code_digest import code_fingerprint
from jebm.pipeline.jobs import Job, missing_outside
from jebm.pipeline.stamps import age_stamp
from jebm.runtime.peak_memory import gpu_peak, resident_peak
from jebm.runtime.progress import log

KEPT, LOCKS = Path(".jebm/results"), Path(".jebm/locks")
Digests = Callable[[str], str | None]


def key_of(job: Job, code: dict[str, str], digests: Digests) -> str:
    """The job's key. Inputs count by role, file name and content, not by the folder that they are in."""
    inputs = {role: [[Path(path).name, digests(path)] for path in paths] for role, paths in job.inputs.items()}
    inputs["outside"] = [digests(path) for path in job.inputs.get("outside", ())]
    return digest({"rule": job.rule, "parameters": job.parameters, "code": code, "inputs": inputs}, 20)


def read_record(path: Path) -> dict | None:
    """A provenance record, or None if there is no valid record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _ = record["key"], record["code"], record["parameters"], record["context"], record["seconds"]
        return record if {*map(type, record["outputs"].values())} == {str} and record["inputs"] is not None else None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None


def wrong_outputs(record: dict, job: Job, digests: Digests) -> list[str]:
    """The job's outputs that are missing or differ from the record."""
    return [path for path in job.outputs[:-1] if digests(path) != record["outputs"].get(Path(path).name, "none")]


def wrong_files(job: Job, digests: Digests) -> dict[str, str]:
    """File → what is wrong with it, for the result in place, whatever its key."""
    record = read_record(Path(job.provenance))
    if record is None:
        return {job.provenance: "is not a record of jebm"} if Path(job.provenance).exists() else {}
    missing = {path: "is missing" for path in job.outputs[:-1] if not Path(path).exists()}
    return dict.fromkeys(wrong_outputs(record, job, digests), "has other content") | missing


def result_in_place(job: Job, key: str, digests: Digests) -> dict | None:
    """The record of the result at the job's own paths, if it has that key and is complete."""
    record = read_record(Path(job.provenance))
    return record if record and record["key"] == key and not wrong_outputs(record, job, digests) else None


def kept_result(job: Job, key: str, digests: Digests) -> dict | None:
    """The record of the result that is kept under a key, if it is complete."""
    folder = KEPT / key
    record = read_record(folder / PROVENANCE)
    if record is None or record["key"] != key:
        return None
    whole = all(digests(str(folder / name)) == expected for name, expected in record["outputs"].items())
    return record if whole and {Path(path).name for path in job.outputs[:-1]} == set(record["outputs"]) else None


def keep(job: Job, record: dict, digests: DigestCache) -> None:
    """Keep the job's result, which is in place, under its key by hard links."""
    folder = KEPT / record["key"]
    for path in job.outputs[:-1]:
        link(Path(path), folder / Path(path).name, digests)
    link(Path(job.provenance), folder / PROVENANCE, digests)


def keep_all(jobs: list[Job], digests: DigestCache) -> None:
    """Keep complete results of jobs that are about to run again, such as those pulled by DVC, which no job here has
    made."""
    for job in jobs:
        record = read_record(Path(job.provenance))
        if record and not (KEPT / record["key"] / PROVENANCE).exists() and not wrong_outputs(record, job, digests):
            keep(job, record, digests)


def take(job: Job, key: str, digests: DigestCache) -> None:
    """Put the result that is kept under a key in place; the record comes last."""
    for path in job.outputs[:-1]:
        link(KEPT / key / Path(path).name, Path(path), digests)
    link(KEPT / key / PROVENANCE, Path(job.provenance), digests)


def link(source: Path, target: Path, digests: DigestCache) -> None:
    """Make ``target`` a hard link to ``source``, or a copy if the file system has no links."""
    if target.exists() and os.path.samefile(source, target):
        return
    known = digests(str(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        os.link(os.path.realpath(source), beside)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, beside)
    os.replace(beside, target)
    digests.remember(str(source), known)
    digests.remember(str(target), known)


@contextmanager
def exclusive(job: Job) -> Iterator[None]:
    """Lock a job, so that no two processes work on it. A killed process releases its lock.

    Raises:
        JebmError: another process is working on the job.
    """
    path = LOCKS / f"{digest(job.provenance)}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise JebmError(
            f"{job.rule} {job.name}: another process is already working on this; let it finish, or stop it first"
        ) from None
    mark, batch = _mark_of(job), os.environ.get("SLURM_JOB_ID", "")
    with suppress(OSError):  # only `jebm status` reads it
        write_json(mark, {"host": socket.gethostname(), "pid": os.getpid(), "slurm": batch, "started": time.time()})
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)
        lock.release()


def running_mark(job: Job) -> dict | None:
    """Where and since when a process works on a job. It may have been killed since; None if it has ended by itself."""
    try:
        return json.loads(_mark_of(job).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None


def _mark_of(job: Job) -> Path:
    return LOCKS / f"{digest(job.provenance)}.json"


def produce(job: Job, work: Callable[[str], dict | None], again: bool = False, is_rank_zero: bool = True) -> None:
    """Provide the result of a job: take it if its key has been made before, otherwise do the work and record it.

    Parameters, code and inputs are read before the work starts, so edits in the meantime are noticed later.

    Args:
        work: given the digest of the job's code, makes all outputs except the record; may return ``seconds``, which
            include earlier runs that it resumed.
        again: do the work even if the result exists.
        is_rank_zero: whether this process writes files; one of several ranks of a job does.

    Raises:
        JebmError: an input is missing, or another process is working on the job.
    """
    digests = DigestCache()
    code = code_fingerprint(job.entries)
    inputs = {path: digests(path) for path in job.input_files}
    _refuse_wrong(job, inputs)
    key = key_of(job, code, inputs.__getitem__)
    if not is_rank_zero:
        if again or not (result_in_place(job, key, digests) or kept_result(job, key, digests)):
            work(digest(code))
        return
    with exclusive(job):
        if not again and result_in_place(job, key, digests):
            log(f"{job.rule} {job.name}: made before with this key ({key}); nothing to do")
        elif not again and kept_result(job, key, digests):
            take(job, key, digests)
            log(f"{job.rule} {job.name}: made before with this key ({key}); taken from {KEPT / key}")
        else:
            started = time.monotonic()
            facts = work(digest(code)) or {}
            record = {
                "key": key,
                "rule": job.rule,
                "parameters": job.parameters,
                "context": job.context,
                "code": code,
                "inputs": inputs,
                "outputs": {Path(path).name: digests(path) for path in job.outputs[:-1]},
                "seconds": round(facts.get("seconds", time.monotonic() - started), 2),
                "peak_mib": round(resident_peak()),
            }
            if (on_gpu := gpu_peak()) is not None:
                record["gpu_peak_mib"] = round(on_gpu)
            write_json(Path(job.provenance), record)
            keep(job, record, digests)
        if job.state:  # checkpoints are not needed any more
            shutil.rmtree(job.state, ignore_errors=True)
        age_stamp(job)
    digests.save_large()


def _refuse_wrong(job: Job, inputs: dict[str, Any]) -> None:
    """Check that all inputs exist, and agree with the records of the jobs that made them.

    Missing files of the user are reported by the step, which knows the parameter that names them.
    """
    own = missing_outside(job)
    for path, found in inputs.items():
        if found is None and path not in own:
            raise JebmError(f"{path}: no such file; `snakemake --cores all {path}` makes it")
        maker = read_record(Path(path).parent / PROVENANCE)
        if maker and maker["outputs"].get(Path(path).name, found) != found:
            raise JebmError(
                f"{path}: is not what the job made that wrote it; `snakemake --cores all {path}` repairs it"
            )
