# Parameters, checked before any job starts, and the look-ups that the rules share.
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from jebm.config.read import read_params
from jebm.errors import JebmError
from jebm.forkserver.server import ForkServer
from jebm.io.digests import DigestCache
from jebm.pipeline.assets import ASSETS, inventory, refuse_wrong
from jebm.pipeline.code_digest import save_scans
from jebm.pipeline.freshness import statuses
from jebm.pipeline.jobs import all_jobs, missing_outside
from jebm.pipeline.results import LOCKS, keep_all
from jebm.pipeline.stages import RESULTS, STAMPS
from jebm.pipeline.stamps import write_stamps
from jebm.pipeline.study import make_plan


def or_one_line(call):
    """What a call returns. A user's mistake ends Snakemake there with one line, before any job."""
    try:
        return call()
    except JebmError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


PARAMETERS = or_one_line(read_params)
PLANS = make_plan(PARAMETERS)
JOBS = all_jobs(PLANS.values())
DEFAULT_STUDIES, CORE_STUDIES = PARAMETERS.default_studies, PARAMETERS.core_studies

# Jobs on a cluster parse this file again. The process that plans them marks the environment, which all of them inherit;
# it alone may write stamps, and asks once for all jobs what is fresh.
PLANNING = "JEBM_WORKFLOW" not in os.environ
os.environ["JEBM_WORKFLOW"] = str(Path.cwd())


envvars:
    "JEBM_WORKFLOW",


def planned():
    """Job → its status, decided by content; Snakemake learns of it through the stamps."""
    digests = DigestCache()
    found = statuses(JOBS.values(), digests)
    write_stamps(found)
    digests.save()
    save_scans(job.entries for job in JOBS.values())
    return {(status.job.rule, status.job.name): status for status in found}


STATUSES = planned() if PLANNING else {}
BY_ID = {(job.parameters["id"], job.parameters["seed"]): key for key, job in JOBS.items() if "id" in job.parameters}


wildcard_constraints:
    study="|".join(map(re.escape, PLANS)),
    name="[^/]+",
    id="[0-9a-f]{10}",
    seed="[0-9]+",


def job_of(wildcards):
    """The job of a stage, by the identity and the seed in its path."""
    seed = int(wildcards.seed) if hasattr(wildcards, "seed") else None
    if (wildcards.id, seed) not in BY_ID:
        known = "no study of the parameters has this stage; were they edited while Snakemake was running?"
        raise JebmError(f"{wildcards.name}-{wildcards.id}, seed {seed}: {known}")
    return JOBS[BY_ID[wildcards.id, seed]]


def reads(role, job=job_of):
    """An input function: the files that a job reads in a role. Their contents decide, not their times: see the stamp."""

    def files(wildcards):
        found = job(wildcards)
        status = STATUSES.get((found.rule, found.name))
        absent = missing_outside(found)  # the command reports them: it knows the parameter that names them
        if status and status.fresh:  # what it was made from may be gone, and need not come back for its sake
            absent += [path for path in found.input_files if not Path(path).exists()]
        return [ancient(path) for path in found.inputs.get(role, ()) if path not in absent]

    return files


def report_job(rule, name="{wildcards.name}"):
    """The job of a rule that writes to results/."""
    return lambda wildcards: JOBS[rule, f"{wildcards.study}/{name.format(wildcards=wildcards)}"]


def command(wildcards):
    """What a stage's command starts with: one process, or several that share the work."""
    devices = job_of(wildcards).devices
    return "jebm" if devices == 1 else f"jebm launch --devices {devices}"


def cores(wildcards):
    """The threads of all processes of a stage."""
    job = job_of(wildcards)
    return job.devices * job.threads


def gpus(wildcards):
    """How many GPUs a stage computes on."""
    job = job_of(wildcards)
    return job.devices if job.device.startswith("cuda") else 0


def targets(study):
    """Everything a study leaves behind. Intermediate files too: Snakemake does not make a missing one otherwise."""
    own = {job.outputs for job in all_jobs([PLANS[study]]).values()}
    return sorted(path for outputs in own for path in outputs)


def rendered(study, what):
    """The files of all tables or figures of a study."""
    own = all_jobs([PLANS[study]]).values()
    return [path for job in own if job.rule == f"render_{what}" for path in job.outputs]


def needed_assets(studies):
    """An input function: the assets that studies need, after a list of what they are and of what is there."""
    needed = {name: PLANS[study].assets[name] for study in studies for name in PLANS[study].asset_names()}
    listed = []

    def inputs(wildcards):
        if PLANNING and not listed:
            digests = DigestCache()
            listed.append(inventory(needed, digests))
            print(listed[0], file=sys.stderr)
            or_one_line(lambda: refuse_wrong(needed, digests))
            digests.save()
        return [str(asset.path) for asset in needed.values()]

    return inputs


RUNNING = FileLock(LOCKS / "workflow.lock")
SERVERS = []


def start():
    """Before the first job: one run per folder, nothing that is finished gets lost, and jobs that start at once."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    ASSETS.mkdir(exist_ok=True)  # DVC looks for it, also where no study needs any
    try:
        # Held by the kernel for this process: after a kill of Snakemake nothing has to be unlocked.
        RUNNING.acquire(timeout=0)
    except Timeout:
        print("another Snakemake is running in this folder; let it finish, or stop it first", file=sys.stderr)
        sys.exit(1)
    digests = DigestCache()
    keep_all([status.job for status in STATUSES.values() if not status.fresh], digests)
    digests.save()
    # Not on macOS: Accelerate, which NumPy and torch compute with there, does not survive a fork.
    if PARAMETERS.runtime.fork_server and sys.platform == "linux":
        with suppress(OSError):
            SERVERS.append(ForkServer(Path("logs/server.log")))


def stop():
    """Not needed for jobs to end, only to leave nothing running behind the last line: the server sees this process end."""
    while SERVERS:
        SERVERS.pop().stop()


def show_results():
    """Print the main table of each core study and where everything is, when it is there."""
    for study in CORE_STUDIES:
        if (RESULTS / study / "tables" / "main.md").exists():
            subprocess.run(["jebm", "show", study], check=False)
