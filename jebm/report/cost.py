"""Estimates the cost of pending jobs from recorded run times, and lists what they would ask a scheduler for."""

import math
import os
from collections import Counter
from collections.abc import Iterable
from statistics import median

from jebm.pipeline.freshness import Status
from jebm.pipeline.resources import recorded_runs, request
from jebm.pipeline.stages import REPORTS
from jebm.report.wall_time import in_words, wall_seconds

NOTHING = "Nothing to do: everything is fresh."


def cost_table(pending: Iterable[Status], cores: int | None = None) -> str:
    """A table of pending jobs per rule with the median recorded time, and how long all of them take on this machine.

    Args:
        cores: of the machine; all of this one when left out.
    """
    pending, cores = list(pending), cores or os.cpu_count() or 1
    counts = Counter(status.job.rule for status in pending)
    if not counts:
        return NOTHING
    runs = {rule: recorded_runs(rule) for rule in counts}
    each = {rule: median(run.seconds for run in own) for rule, own in runs.items() if own}
    lines = [f"{'rule':<22}{'jobs':>6}{'seconds per job':>18}"]
    for rule, count in counts.items():
        lines.append(f"{rule:<22}{count:>6}{f'{each[rule]:.1f}' if rule in each else 'unknown':>18}")
    lines.append(f"{'total':<22}{len(pending):>6}")
    unknown = sum(count for rule, count in counts.items() if rule not in each)
    if unknown == len(pending):
        lines.append("How long they take is unknown: no job of these rules has run here yet. `jebm bench` measures it.")
        return "\n".join(lines)
    wall = in_words(wall_seconds(pending, lambda status: each.get(status.job.rule, 0.0), cores))
    without = f", without {unknown} jobs whose time is unknown: their rules have not run here yet" if unknown else ""
    lines.append(f"about {wall} on {cores} cores{without}")
    if kept := sum(status.kept for status in pending):
        lines.append(f"{kept} of the jobs find their result among the kept ones and take no time")
    return "\n".join(lines)


def request_table(pending: Iterable[Status], longest: int) -> str:
    """A table of what pending jobs would ask Slurm for, equal requests of a rule in one row.

    Hours are those of all attempts: a training that takes longer than a job may ask for is continued by the next one.

    Args:
        longest: the most minutes that a job asks for.
    """
    jobs = [status.job for status in pending]
    if not jobs:
        return NOTHING
    beside = sum(job.rule in REPORTS for job in jobs)
    asked = Counter((job.rule, request(job, longest=longest)) for job in jobs if job.rule not in REPORTS)
    head = ("jobs", "threads", "gpus", "MB", "minutes", "core-hours", "GPU-hours", "from")
    lines = [f"{'rule':<20}" + "".join(f"{name:>11}" for name in head)]
    cores = gpus = 0.0
    for (rule, one), count in asked.items():
        hours = count * max(one.minutes, one.whole) / 60
        cores, gpus = cores + hours * one.threads, gpus + hours * one.gpus
        cells = (count, one.threads, one.gpus, one.mem_mb, one.minutes)
        hours_cells = f"{hours * one.threads:>11.2f}{hours * one.gpus:>11.2f}"
        lines.append(f"{rule:<20}" + "".join(f"{cell:>11}" for cell in cells) + hours_cells + f"{one.source:>11}")
    lines.append(f"{'total':<20}{sum(asked.values()):>11}{'':>44}{cores:>11.2f}{gpus:>11.2f}")
    lines.append("from: recorded runs of the stage; scaled from runs with other parameters; or estimated from shapes.")
    slices = {rule: math.ceil(one.whole / longest) for rule, one in sorted(asked, key=lambda key: key[1].whole)}
    for rule, number in slices.items():
        if number > 1:
            lines.append(
                f"{rule}: one job takes about {number} attempts of {longest} minutes (`runtime.longest_job`); each "
                "after the first is one of the `retries` in profiles/slurm/config.yaml"
            )
    if beside:
        lines.append(f"{beside} jobs that collect and render run beside Snakemake and ask for nothing.")
    return "\n".join(lines)
