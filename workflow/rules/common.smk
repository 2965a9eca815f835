# Parameters, checked before any job starts, and the look-ups that the rules share.
import subprocess
import sys

from jebm.config import PARAMS, parse_params, read_params
from jebm.digests import DigestCache
from jebm.errors import JebmError
from jebm.freshness import settle, statuses
from jebm.jobs import study_jobs
from jebm.plan import RESULTS, make_plan


def checked_plans():
    """The plans of all studies; a mistake in params.yaml ends Snakemake here with one line."""
    try:
        params = read_params(PARAMS)
        if parse_params(dict(config)) != params:
            raise JebmError(
                f"{PARAMS} is the only place where an experiment is changed; --config and --configfile are not used"
            )
    except JebmError as error:
        print(error, file=sys.stderr)
        sys.stderr.flush()
        os._exit(error.exit_code)
    return params.default_studies, make_plan(params)


DEFAULT_STUDIES, PLANS = checked_plans()


wildcard_constraints:
    study="|".join(PLANS),
    id="[0-9a-f]{10}",
    seed="[0-9]+",


def stage_of(wildcards, kind):
    """The stage that a job's wildcards name."""
    return PLANS[wildcards.study].find(kind, wildcards.id).stage(kind)


def variant_of(wildcards, kind):
    """Any variant that shares the stage; all of them agree on everything that the stage depends on."""
    return PLANS[wildcards.study].find(kind, wildcards.id)


def files_of(kind, of):
    """An input function: the files of the ``kind`` stage behind the job's ``of`` stage, at the job's seed."""

    def files(wildcards):
        variant = variant_of(wildcards, of)
        if kind == "prior" and not variant.learned:
            return []
        return variant.stage(kind).content_files(getattr(wildcards, "seed", None))

    return files


def targets(plan):
    """Everything a study leaves behind. Intermediate files too: Snakemake does not rebuild a missing one otherwise."""
    return sorted({path for job in study_jobs(plan) for path in job.outputs})


def settle_freshness():
    """Decide by content what is fresh, and give files the times that make Snakemake decide the same."""
    digests = DigestCache()
    for plan in PLANS.values():
        settle(statuses(study_jobs(plan), digests), digests)
    digests.save()


# Jobs on a cluster parse this file again; only the process that plans them may decide.
if workflow.is_main_process:
    settle_freshness()


def show_results():
    """Print the main tables and where everything is, when all of it is there."""
    if all((RESULTS / name / "tables" / "main.md").exists() for name in DEFAULT_STUDIES):
        subprocess.run(["jebm", "show"], check=False)


def study_of_dataset(id):
    """A dataset belongs to no study: name any one that uses it."""
    return next(name for name, plan in PLANS.items() if id in plan.ids("dataset"))
