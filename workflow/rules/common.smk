# Parameters, checked before any job starts, and the look-ups that the rules share.
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from jebm.config.assets import ASSETS, data_paths
from jebm.pipeline.assets import inventory, refuse_wrong
from jebm.config.read import PARAMS, parse_params, read_params
from jebm.io.digests import DigestCache
from jebm.errors import JebmError
from jebm.pipeline.code_digest import save_scans
from jebm.pipeline.freshness import settle, statuses
from jebm.pipeline.jobs import all_jobs, devices_of, report_jobs, stage_job, study_jobs
from jebm.pipeline.restore import keep_aside, restore
from jebm.pipeline.study import RESULTS, make_plan, study_of
from jebm.forkserver.server import ForkServer


def checked_plans():
    """The plans of all studies; a mistake in params.yaml ends Snakemake here with one line."""

    def checked():
        params = read_params(PARAMS)
        if parse_params(dict(config)) != params:
            raise JebmError(
                f"{PARAMS} is the only place where an experiment is changed; --config and --configfile are not used"
            )
        return params

    params = end_with_a_line(checked)
    return params, make_plan(params)


def end_with_a_line(call):
    """What a call returns; a user's mistake ends Snakemake there, without a traceback."""
    try:
        return call()
    except JebmError as error:
        print(error, file=sys.stderr)
        sys.stderr.flush()
        os._exit(error.exit_code)


PARAMETERS, PLANS = checked_plans()
DEFAULT_STUDIES = PARAMETERS.default_studies
CORE_STUDIES = PARAMETERS.core_studies


wildcard_constraints:
    study="|".join(PLANS),
    id="[0-9a-f]{10}",
    seed="[0-9]+",


def inputs_of(kind):
    """An input function: what the job that makes this kind of stage reads."""

    def inputs(wildcards):
        plan = study_of(PLANS, kind, wildcards.id)
        variant, stage = plan.owner(kind, wildcards.id)
        seed = int(wildcards.seed) if hasattr(wildcards, "seed") else None
        # Data of the user's own that are missing are the job's to report: it knows the key that names them.
        own = {path for path in data_paths(variant.params) if not Path(path).exists()}
        # And so are assets that nobody offers: three attempts to fetch one would say no more.
        own |= {str(asset.path) for asset in plan.assets.values() if not asset.url and not asset.path.exists()}
        return [path for path in stage_job(plan, variant, stage, seed).inputs if path not in own] or "params.yaml"

    return inputs


def needed_assets(studies):
    """An input function: the assets that studies need, after a list of what they are and of what is there."""
    needed = {name: PLANS[study].assets[name] for study in studies for name in PLANS[study].asset_names()}
    lists = [] if workflow.is_main_process else ["not asked for"]

    def inputs(wildcards):
        if not lists:
            digests = DigestCache()
            lists.append(inventory(needed, digests))
            digests.save()
            print(lists[0], file=sys.stderr)
            end_with_a_line(lambda: refuse_wrong(needed, digests))
        return [str(asset.path) for asset in needed.values()]

    return inputs


def targets(plan):
    """Everything a study leaves behind. Intermediate files too: Snakemake does not rebuild a missing one otherwise."""
    return sorted({path for job in study_jobs(plan) for path in job.outputs})


def settled_statuses():
    """Decide by content what is fresh, and give files the times that make Snakemake decide the same."""
    digests = DigestCache()
    if "DVC_ROOT" in os.environ:
        # An experiment starts from what dvc.lock knows, and has deleted what was finished since.
        if back := restore():
            print(f"{len(back)} finished results were brought back after DVC removed them", file=sys.stderr)
    decided = list(statuses(all_jobs(PLANS.values()), digests))
    settle(decided, digests)
    digests.save()
    save_scans(status.job.entries for status in decided)
    return decided


def jobs_run_here():
    """Whether this process plans the jobs and they run on this machine; known once the workflow starts."""
    return workflow.is_main_process and workflow.executor_plugin.name == "local"


def start_at_once():
    """Let the scheduler start a job whenever a core is free.

    To keep to a rate of submissions, Snakemake looks through all ready jobs once a second for every job that it has
    ever started: with hundreds of small jobs, a third of a core. A cluster needs such a rate, this machine does not.
    """
    if jobs_run_here():
        workflow.scheduler.job_rate_limiter = None


# Jobs on a cluster parse this file again; only the process that plans them may decide.
STATUSES = settled_statuses() if workflow.is_main_process else []
if workflow.is_main_process:
    ASSETS.mkdir(exist_ok=True)  # DVC looks for it, also where no study needs any


SERVERS = []


def start_server():
    """Let jobs that run on this machine fork from one process; without it, each of them imports the libraries."""
    # Not on macOS: Accelerate, which NumPy and torch compute with there, does not survive a fork.
    if PARAMETERS.runtime.fork_server and jobs_run_here() and sys.platform == "linux":
        with suppress(OSError):
            SERVERS.append(ForkServer(Path("logs/server.log")))


def stop_server():
    """Not needed for jobs to end, only to leave nothing running behind the last line: the server sees this process end."""
    while SERVERS:
        SERVERS.pop().stop()


def show_results():
    """Print the main table of each core study and where everything is, when it is there."""
    for name in CORE_STUDIES:
        if (RESULTS / name / "tables" / "main.md").exists():
            subprocess.run(["jebm", "show", name], check=False)


def named(kind):
    """A params function: a study that the stage of the wildcards belongs to; shared stages need any one."""
    return lambda wildcards: study_of(PLANS, kind, wildcards.id).name


def variant_of(kind, wildcards):
    """A variant that the stage of the wildcards belongs to."""
    return study_of(PLANS, kind, wildcards.id).owner(kind, wildcards.id)[0]


def launcher(kind):
    """A params function: what a stage's command starts with, one process for each of its devices."""

    def command(wildcards):
        devices = devices_of(kind, variant_of(kind, wildcards))
        return "jebm" if devices == 1 else f"jebm launch --devices {devices}"

    return command


def cores(kind):
    """A threads function: those of all processes of a stage."""

    def count(wildcards):
        variant = variant_of(kind, wildcards)
        return devices_of(kind, variant) * variant.params.compute.threads

    return count


def gpus(kind):
    """A resource function: how many GPUs a stage computes on."""

    def count(wildcards):
        variant = variant_of(kind, wildcards)
        return devices_of(kind, variant) if variant.params.compute.device.startswith("cuda") else 0

    return count


def rendered(plan, what):
    """The files of all tables or figures of a study."""
    return [path for job in report_jobs(plan) if job.rule == f"render_{what}" for path in job.outputs]
