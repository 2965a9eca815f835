"""Estimates the cost of pending jobs from recorded run times."""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from jebm.pipeline.freshness import Status
from jebm.pipeline.stages import RUNS


def recorded_seconds() -> dict[str, list[float]]:
    """Rule → the run times in seconds of all its results that still exist, fresh or not."""
    times: dict[str, list[float]] = {}
    for path in sorted(Path(RUNS).rglob("provenance.json")) + sorted(Path(RUNS).glob("report/*/*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            times.setdefault(record["rule"], []).append(float(record["seconds"]))
        except (json.JSONDecodeError, KeyError, TypeError):
            continue  # another program's file, or a record of an older format
    return times


def cost_table(pending: Iterable[Status]) -> str:
    """A table of pending jobs per rule, with the median recorded time and the sum in hours of one job slot."""
    times, counts = recorded_seconds(), {}
    for status in pending:
        counts[status.job.rule] = counts.get(status.job.rule, 0) + 1
    if not counts:
        return "Nothing to do: everything is fresh."
    lines, total, unknown = [f"{'rule':<20}{'jobs':>6}{'s per job':>10}{'hours':>10}"], 0.0, 0
    for rule, count in counts.items():
        if rule in times:
            each = median(times[rule])
            total += each * count
            lines.append(f"{rule:<20}{count:>6}{each:>10.1f}{each * count / 3600:>10.3f}")
        else:
            unknown += count
            lines.append(f"{rule:<20}{count:>6}{'unknown':>10}{'unknown':>10}")
    lines.append(f"{'total':<20}{sum(counts.values()):>6}{'':>10}{total / 3600:>10.3f}")
    if unknown:
        lines.append(f"{unknown} of the jobs belong to rules that have not run here yet; the total leaves them out.")
    return "\n".join(lines)
