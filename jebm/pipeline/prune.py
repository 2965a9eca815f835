"""Finds what may be deleted: folders of stages that no study names, and kept results whose key has not been used
lately.

The reported size is what deletion frees: a file with further hard links elsewhere takes no space of its own.
"""

import os
import time
from pathlib import Path

from jebm.pipeline.jobs import all_jobs
from jebm.pipeline.results import KEPT, read_record
from jebm.pipeline.stages import DATA, KINDS, RUNS, STATE
from jebm.pipeline.study import StudyPlan


def unneeded(plans: dict[str, StudyPlan], days: float) -> list[Path]:
    """Folders to delete. A result in place and its kept copy are deleted together or not at all.

    Args:
        days: results that were made or used within this many days stay, whatever their parameters.
    """
    jobs = all_jobs(plans.values()).values()
    named = {Path(job.provenance).parent for job in jobs}
    limit = time.time() - days * 86400
    folders = [
        path.parent for root in (DATA, *(RUNS / kind for kind in KINDS)) for path in root.rglob("provenance.json")
    ]
    old = [folder for folder in folders if folder not in named and _used(folder) < limit]
    present = {record["key"] for job in jobs if (record := read_record(Path(job.provenance)))}
    kept = [folder for folder in KEPT.glob("*") if folder.name not in present and _used(folder) < limit]
    states = {Path(job.state) for job in jobs if job.state}
    unfinished = [path.parent for path in STATE.rglob("state.pt")]
    unfinished = [folder for folder in unfinished if folder not in states and _used(folder) < limit]
    return sorted({*old, *kept, *unfinished})


def total_size(folders: list[Path]) -> int:
    """Number of bytes that deleting some folders frees."""
    names: dict[tuple[int, int], list[int]] = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                names.setdefault((status.st_dev, status.st_ino), [status.st_size, status.st_nlink]).append(0)
    return sum(size for size, links, *found in names.values() if len(found) >= links)


def _used(folder: Path) -> float:
    """When a result was made or put in place: the newest change time (ctime) of its files, which programs can't set
    back."""
    return max((os.lstat(path).st_ctime for path in folder.iterdir()), default=0.0)
