# Parameters, checked before any job starts, and the look-ups that the rules share.
import subprocess
import sys

from jebm.config import PARAMS, parse_params, read_params
from jebm.errors import JebmError
from jebm.plan import RESULTS, Stage, make_plan


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
        return variant.stage(kind).files(getattr(wildcards, "seed", None))

    return files


def targets(plan):
    """Everything a study leaves behind. Intermediate files too: Snakemake does not rebuild a missing one otherwise."""
    files = [str(plan.results / name) for name in ("metrics.csv", "metrics.json", "protocols.json")]
    files += [str(plan.results / "plots" / name) for name in ("langevin-steps.csv", "training.csv")]
    files += [str(plan.results / "tables" / f"{t}.{kind}") for t in plan.study.tables for kind in ("md", "csv", "tex")]
    files += [str(plan.results / "figures" / f"{f}.{kind}") for f in plan.study.figures for kind in ("png", "pdf")]
    files += plan.floor_files()
    for variant in plan.variants.values():
        for kind in ("dataset", "features", "backbone", "prior", "samples", "sample-metrics", "density-metrics"):
            if kind != "prior" or variant.learned:
                files += [path for seed in plan.seeds for path in variant.stage(kind).files(seed)]
    return sorted(set(files))


def show_results():
    """Print the main tables and where everything is, when all of it is there."""
    if all((RESULTS / name / "tables" / "main.md").exists() for name in DEFAULT_STUDIES):
        subprocess.run(["jebm", "show"], check=False)


def study_of_dataset(id):
    """A dataset belongs to no study: name any one that uses it."""
    return next(name for name, plan in PLANS.items() if id in plan.ids("dataset"))
