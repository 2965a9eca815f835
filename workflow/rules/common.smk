# Functions that the rules share. jebm.pipeline decides by content which results are fresh, and tells Snakemake by one
# stamp per job; see jebm/pipeline/stamps.py.
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from jebm.config.catalogue import FIGURES
from jebm.config.source import description
from jebm.forkserver.server import ForkServer
from jebm.pipeline.stages import RESULTS, STAMPS
from jebm.runtime.timers import cancel_long_timers

FLOW = or_one_line(planned)
DEFAULT_STUDIES, CORE_STUDIES = FLOW.params.default_studies, FLOW.params.core_studies


envvars:
    "JEBM_WORKFLOW",


wildcard_constraints:
    study="|".join(map(re.escape, FLOW.plans)),
    name="[^/]+",
    id="[0-9a-f]{10}",
    seed="[0-9]+",


def job_of(wildcards):
    """The job of a stage, by the identity and the seed in its path."""
    seed = int(wildcards.seed) if hasattr(wildcards, "seed") else None
    return or_one_line(FLOW.stage_job, wildcards.id, seed)


def report_job(rule, name=None):
    """An input function's argument: finds the job of a rule that writes to results/."""
    return lambda wildcards: or_one_line(FLOW.report_job, rule, f"{wildcards.study}/{name or wildcards.name}")


def reads(role, job=job_of):
    """An input function: the files that a job reads in a role. Their contents count, not their times: see the stamp.

    Files that another job is about to make are not `ancient`. If a job depends on one that runs, Snakemake does not
    check its stamp, but relies on the new files to trigger it, which `ancient` would prevent.
    """

    def files(wildcards):
        paths = FLOW.inputs(job(wildcards), role)
        return [path if FLOW.has_to_be_made(path) else ancient(path) for path in paths]

    return files


def needed_assets(studies):
    """An input function: the external files that studies need."""
    return lambda wildcards: or_one_line(FLOW.assets, studies)


def cores(wildcards):
    """The threads of all processes of a stage."""
    return job_of(wildcards).devices * job_of(wildcards).threads


def gpus(wildcards):
    """How many GPUs a stage computes on."""
    return job_of(wildcards).devices if job_of(wildcards).device.startswith("cuda") else 0


SERVERS = []


def begin():
    """Before the first job. On Linux, jobs on this machine are then forked from one process with the libraries loaded.
    On macOS this is impossible, because Apple's Accelerate library does not work after a fork."""
    or_one_line(FLOW.begin)
    cancel_long_timers()
    if FLOW.params.runtime.fork_server and sys.platform == "linux":
        with suppress(OSError):
            SERVERS.append(ForkServer(Path("logs/server.log")))


def end():
    """Stop the server at once; it would also end by itself soon after this process."""
    while SERVERS:
        SERVERS.pop().stop()


def show_results():
    """Print the main table of each core study, if it exists, and the paths of its results."""
    for study in CORE_STUDIES:
        if (RESULTS / study / "tables" / "main.md").exists():
            subprocess.run(["jebm", "show", study], check=False)
