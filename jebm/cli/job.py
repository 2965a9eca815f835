"""Commands that do the work of the rules: ``jebm run RULE JOB`` for all of them, and ``fetch-asset``."""

import os
import re
from typing import Annotated

import typer

from jebm.config.components import load
from jebm.config.files import current_params_file
from jebm.config.messages import suggestion, unknown
from jebm.config.read import read_params
from jebm.config.schema import Params
from jebm.errors import JebmError, ParamsError
from jebm.forkserver.refusal import require_own_process
from jebm.pipeline.jobs import Job, report_jobs, stage_job, step_target
from jebm.pipeline.results import produce
from jebm.pipeline.stages import KINDS, REPORTS, Stage
from jebm.pipeline.study import StudyPlan, Variant, make_plan
from jebm.runtime.gpus import assign_gpus
from jebm.runtime.threads import thread_variables
from jebm.runtime.torchrun import become_torchrun, exit_with_parent, is_rank_zero, world_size

app = typer.Typer()


@app.command()
def run(
    rule: Annotated[str, typer.Argument(help="A rule of the workflow, for instance train_prior.")],
    job: Annotated[
        str,
        typer.Argument(
            help="The job as the rule names it (digits-layerwise-10a593f391/seed1, digits/main), or a study."
        ),
    ],
    variant: Annotated[str, typer.Option(help="With a study: the variant whose job it is.")] = "",
    seed: Annotated[int | None, typer.Option(help="With a study: the seed; needed where each seed has a job.")] = None,
    again: Annotated[
        bool,
        typer.Option("--again", envvar="JEBM_AGAIN", help="Do the work even if this very result was made before."),
    ] = False,
):
    """Run one job of the workflow, as its rule does. A result that was made before with the same key is taken instead.

    \b
    jebm run train_prior digits --variant short-run --seed 1
    jebm run render_table digits/main
    jebm run train_backbone digits-chain-57b3a1bd0f/seed2     the folder below runs/train_backbone
    JEBM_AGAIN=1 snakemake --cores all --forcerun train_prior   no result is taken: all that is forced is made again
    """
    if rule not in {**KINDS, **REPORTS}:
        raise JebmError(f"jebm run: there is no rule '{rule}';{suggestion(rule, [*KINDS, *REPORTS])}")
    params = read_params()
    plans = make_plan(params)
    if rule in REPORTS:
        _report(rule, job, plans, again)
    else:
        _stage(*_find(rule, job, variant, seed, plans), params, again)


def _find(
    kind: str, name: str, variant: str, seed: int | None, plans: dict[str, StudyPlan]
) -> tuple[StudyPlan, Variant, Stage, int | None]:
    """The stage that a job's name identifies.

    Raises:
        ParamsError: no study has it, often because the parameters were edited after Snakemake started.
    """
    if name in plans:
        return _of_variant(kind, plans[name], variant, seed)
    match = re.fullmatch(r".*-([0-9a-f]{10})(?:/seed(\d+))?", name)
    if not match:
        raise unknown(f"{kind} has no job '{name}', and no study is called so", name, plans)
    found = int(match[2]) if match[2] else None
    if (found is not None) == KINDS[kind].per_seed:
        for plan in plans.values():
            for candidate in plan.variants.values() if found is None or found in plan.seeds else ():
                for stage in candidate.stages(kind):
                    if stage.id == match[1]:
                        return plan, candidate, stage, found
    raise ParamsError(
        f"{current_params_file()}: no study has the job '{name}' of the rule {kind}; was the file edited while "
        "Snakemake was running? Start it again. `jebm list` shows the folders of all stages"
    )


def _of_variant(
    kind: str, plan: StudyPlan, variant: str, seed: int | None
) -> tuple[StudyPlan, Variant, Stage, int | None]:
    if variant not in plan.variants:
        raise unknown(f"name one of the variants of '{plan.name}' by --variant", variant, plan.variants)
    found = plan.variants[variant]
    stages = found.stages(kind)
    if not stages or (kind == "train_prior" and not found.learned):
        raise JebmError(f"variant '{variant}' has no {kind}; `jebm list {plan.name}` shows what it has")
    if len(stages) > 1:
        raise JebmError(f"'{variant}' has several {kind} stages, name one: {', '.join(stage.name for stage in stages)}")
    if KINDS[kind].per_seed and seed not in plan.seeds:
        raise JebmError(f"name one of the seeds of '{plan.name}' by --seed: {', '.join(map(str, plan.seeds))}")
    return plan, found, stages[0], seed if KINDS[kind].per_seed else None


def _stage(plan: StudyPlan, variant: Variant, stage: Stage, seed: int | None, params: Params, again: bool) -> None:
    job = stage_job(plan, variant, stage, seed)
    if (job.device, job.threads, job.devices) != ("cpu", 1, 1):
        require_own_process()
    if job.device.startswith("cuda") and not world_size():
        assign_gpus(job.device, job.devices, params.runtime.jobs_per_gpu)
    _start_ranks(job)
    # Before NumPy and torch load: their thread pools are sized at import, and rounding depends on the size.
    os.environ |= thread_variables(job.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products on a GPU

    def work(code: str) -> dict | None:
        from jebm.runtime.distributed import process_group
        from jebm.steps.run import StageRun

        seconds, on_device = params.runtime.checkpoint_seconds, params.runtime.data_on_device
        with process_group(job.devices, job.device):
            return load(step_target(stage.kind))(StageRun(plan, variant, stage, seed, seconds, code, on_device))

    produce(job, work, again, is_rank_zero())


def _start_ranks(job: Job) -> None:
    """Make sure that this process is one of as many as the job needs; a process that was started alone becomes
    torchrun."""
    started = world_size()
    if started not in (0, job.devices):
        raise JebmError(f"this job is one for {job.devices} devices, but was started as {started} processes")
    if job.devices > 1 and not started:
        become_torchrun(job.devices)
    exit_with_parent()


def _report(rule: str, name: str, plans: dict[str, StudyPlan], again: bool) -> None:
    study, _, what = name.partition("/")
    if study not in plans:
        raise unknown(f"there is no study '{study}'", study, plans)
    jobs = {job.name: job for job in report_jobs(plans[study]) if job.rule == rule}
    if name not in jobs:
        raise unknown(f"{rule} has no job '{name}'", name, jobs)
    arguments = [what] if rule.startswith("render_") else []
    produce(jobs[name], lambda code: load(REPORTS[rule])(plans[study], *arguments), again)


@app.command()
def fetch_asset(name: Annotated[str, typer.Argument(help="A key of the block assets of the parameters.")]):
    """Download an external file, or check that the file in its place is the right one."""
    from jebm.pipeline.download import fetch

    assets = read_params().assets
    if name not in assets:
        raise unknown(f"there is no asset '{name}'", name, assets)
    fetch(name, assets[name])
