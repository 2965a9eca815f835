"""Finished work that a changed module or input is about to replace is kept aside when it was expensive.

A changed parameter replaces nothing: it leads to another folder.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from jebm.files import sha256
from jebm.freshness import Status

ASIDE = Path(".jebm/aside")


def keep_aside(statuses: Iterable[Status], hours: float) -> list[str]:
    """Link the outputs of stale results that took more than ``hours`` below ``.jebm/aside``.

    Snakemake removes a job's outputs before the job runs again; what is linked here outlives that. Returns a line a
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
