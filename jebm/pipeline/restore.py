"""Finished work that something else would delete: an edit's new run, or a DVC experiment.

Snakemake removes a job's outputs before the job runs again, and ``dvc exp run`` puts ``data`` and ``runs`` back to what
dvc.lock knows, deleting what was finished since. Both lose nothing that is linked here first. All of it may be removed
at any time to free the space.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from jebm.io.digests import sha256
from jebm.io.filenames import PROVENANCE
from jebm.pipeline.freshness import Status
from jebm.pipeline.jobs import Job

ASIDE = Path(".jebm/aside")
KEEP = Path(".jebm/keep")


def keep(job: Job) -> None:
    """Link a finished job's outputs below ``.jebm/keep``."""
    for path in job.outputs:
        (KEEP / path).unlink(missing_ok=True)
        _link(Path(path), KEEP / path)


def restore() -> list[str]:
    """Bring back all finished stages that are gone, as far as what was kept of them is whole; returns their records.

    Results of other parameters come back too: changing back must find them. Whether something is fresh is another
    question, and asked afterwards.
    """
    restored = []
    for kept in sorted(KEEP.rglob(PROVENANCE)):
        record = kept.relative_to(KEEP)
        if record.exists() or (outputs := _whole(kept)) is None:
            continue
        for path in (*outputs, record):
            _link(KEEP / path, Path(path))
        restored.append(str(record))
    return restored


def _whole(kept: Path) -> list[str] | None:
    """The outputs that a kept record vouches for, or None where one of them is missing or not what was made."""
    try:
        outputs = json.loads(kept.read_text(encoding="utf-8"))["outputs"]
        whole = all(sha256(KEEP / path) == digest for path, digest in outputs.items())
        return list(outputs) if whole else None
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None


def keep_aside(statuses: Iterable[Status], hours: float) -> list[str]:
    """Link stale results that took more than ``hours`` below ``.jebm/aside``, before their jobs run again.

    A changed parameter replaces nothing, it leads to another folder; an edit of code or data does. Returns a line a
    result, which says where it went.
    """
    lines = []
    for status in statuses:
        if status.fresh or status.seconds is None or status.seconds <= hours * 3600:
            continue
        folder = ASIDE / sha256(Path(status.job.provenance))[:10]
        for path in status.job.outputs:
            _link(Path(path), folder / path)
        lines.append(f"kept aside: {status.job.outputs[0]} (took {status.seconds / 3600:.2f} h) is now in {folder}")
    return lines


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
