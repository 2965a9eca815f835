"""How long pending jobs take on the cores of a machine, given the seconds of each."""

import heapq
from collections.abc import Callable, Iterable

from jebm.pipeline.freshness import Status


def wall_seconds(pending: Iterable[Status], seconds: Callable[[Status], float], cores: int) -> float:
    """Seconds until all jobs are done, if each starts as soon as its inputs are there and enough cores are free.

    Args:
        pending: the jobs that must run, each after those whose outputs it reads. Results that are kept take no time.
        seconds: the seconds of a job.
    """
    ends: dict[str, float] = {}
    free = [0.0] * cores
    heapq.heapify(free)
    for status in pending:
        job = status.job
        needed = min(max(job.threads * job.devices, 1), cores)
        taken = [heapq.heappop(free) for _ in range(needed)]
        start = max(taken[-1], *(ends.get(path, 0.0) for path in job.input_files), 0.0)
        end = start + (0.0 if status.kept else seconds(status))
        for _ in range(needed):
            heapq.heappush(free, end)
        ends |= dict.fromkeys(job.outputs, end)
    return max(free)


def in_words(seconds: float) -> str:
    """``1 h 05 min``, ``7 min`` or ``under a minute``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under a minute"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
