"""Commands that change nothing: what exists, what would run, what it costs, and why."""

import json
import re
import textwrap
from collections import Counter
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from jebm.config.files import current_params_file
from jebm.config.messages import unknown
from jebm.config.read import read_params
from jebm.errors import JebmError
from jebm.io.digests import DigestCache
from jebm.pipeline.freshness import NOT_MADE, Status, pending, statuses
from jebm.pipeline.jobs import all_jobs
from jebm.pipeline.results import wrong_files
from jebm.pipeline.study import StudyPlan, make_plan

app = typer.Typer()

OptionalStudy = Annotated[str, typer.Argument(help="A study, or `core`; all of default_studies when left out.")]


def default_plans(study: str = "") -> list[StudyPlan]:
    """The plan of one study, of those of the target ``core``, or of all default ones."""
    params = read_params()
    plans = make_plan(params)
    several = {"": params.default_studies, "all": params.default_studies, "core": params.core_studies}
    if study not in (several | plans):
        raise unknown(f"there is no study '{study}'", study, plans)
    return [plans[name] for name in several.get(study, [study])]


def plans_here(study: str = "") -> list[StudyPlan]:
    """The plan of one study, or of the default ones and all others that have run here."""
    if study:
        return default_plans(study)
    others = [plan for name, plan in make_plan(read_params()).items() if any(Path("runs").glob(f"*/{name}-*"))]
    return list({plan.name: plan for plan in [*default_plans(), *others]}.values())


def all_statuses() -> list[Status]:
    """The status of every job of every study."""
    digests = DigestCache()
    result = statuses(all_jobs(make_plan(read_params()).values()).values(), digests)
    digests.save()
    return result


def _pending_of(plans: list[StudyPlan]) -> list[Status]:
    wanted = {key for plan in plans for key in all_jobs([plan])}
    every = all_statuses()
    return pending([status for status in every if (status.job.rule, status.job.name) in wanted], every)


@app.command("list")
def list_stages(study: OptionalStudy = ""):
    """Check the parameters, and list the stages of each variant with their folders."""
    for plan in default_plans(study):
        print(f"{plan.name}: seeds {', '.join(map(str, plan.seeds))}")
        for name, variant in plan.variants.items():
            print(f"  {name}")
            for stage in variant.all_stages():
                if stage.kind == "resample_layers" or (stage.kind == "train_prior" and not variant.learned):
                    continue
                seeds = plan.seeds if stage.per_seed else [None]
                done = sum(all(Path(path).exists() for path in stage.files(seed)) for seed in seeds)
                print(f"    {stage.kind:<22}{stage.folder}  ({done} of {len(seeds)} done)")


@app.command()
def schema():
    """Print the JSON schema of the parameter files, for editors: params.schema.json."""
    from jebm.config.json_schema import json_schema

    print(json.dumps(json_schema(), indent=1, ensure_ascii=False))


@app.command()
def parameters():
    """Print every key of the parameter files with its type, default and meaning: docs/parameters.md."""
    from jebm.config.reference import reference

    print(reference(), end="")


@app.command()
def graph(study: Annotated[str, typer.Argument(help="A study; all of the parameters when left out.")] = ""):
    """Print the workflow as a Mermaid flowchart: its rules, what each writes, and which read it."""
    print(flowchart(study))


def flowchart(study: str) -> str:
    """The Mermaid flowchart of one study, or of all."""
    from jebm.report.graph import mermaid, rule_graph

    plans = default_plans(study) if study else make_plan(read_params()).values()
    return mermaid(rule_graph(all_jobs([plan]).values() for plan in plans))


@app.command()
def assets(study: OptionalStudy = ""):
    """List the external files that a study needs: size, state and path.

    Ends with an error if the file in place is another one.
    """
    from jebm.pipeline.assets import inventory, refuse_wrong

    plans = default_plans(study)
    digests = DigestCache()
    needed = {name: plan.assets[name] for plan in plans for name in plan.asset_names()}
    print(inventory(needed, digests), flush=True)
    digests.save()
    refuse_wrong(needed, digests)


@app.command()
def plan(
    study: OptionalStudy = "",
    slurm: Annotated[bool, typer.Option("--slurm", help="What each job would ask a cluster's scheduler for.")] = False,
):
    """Print the jobs that would run, and their cost estimated from recorded run times."""
    from jebm.report.cost import cost_table, request_table

    pending_jobs = _pending_of(default_plans(study))
    if slurm:
        print(request_table(pending_jobs, read_params().runtime.longest_job))
    else:
        print(cost_table(pending_jobs))


@app.command()
def status(
    study: OptionalStudy = "",
    outdated: Annotated[
        bool,
        typer.Option("--outdated", help="Only name the studies with metrics of other parameters or code."),
    ] = False,
):
    """Print which jobs are done, which run and how far they are, and what is left; from any machine, while it runs."""
    from jebm.report.status import outdated_studies, queue, status_table

    every = all_statuses()
    if outdated:
        if names := outdated_studies(every):
            print(f"recorded before, not made here with these parameters and this code: {', '.join(names)}")
        return
    for plan in plans_here(study):
        own = all_jobs([plan])
        print(status_table(plan.name, [one for one in every if (one.job.rule, one.job.name) in own]))
    if text := queue():
        print(text)


@app.command()
def kubernetes(
    study: Annotated[str, typer.Argument(help="A study of the parameters.")],
    image: Annotated[str, typer.Option(help="The container image, made from containers/Dockerfile.")],
    claim: Annotated[str, typer.Option(help="The PersistentVolumeClaim that holds a checkout of this repository.")],
    cpus: Annotated[int, typer.Option(help="Cores of the pod.", min=1)] = 8,
    gpus: Annotated[int | None, typer.Option(help="GPUs of the pod; as many as a job needs when left out.")] = None,
    memory: Annotated[int | None, typer.Option(help="MiB of the pod; estimated from its jobs when left out.")] = None,
    restarts: Annotated[int, typer.Option(help="Pods that may be stopped before the Job fails.", min=0)] = 20,
    queue: Annotated[str, typer.Option(help="A queue of Kueue.")] = "",
):
    """Print the manifest of a Kubernetes Job that runs a study: `jebm kubernetes … | kubectl create -f -`."""
    import yaml

    from jebm.pipeline.kubernetes import manifest

    jobs = all_jobs(default_plans(study)).values()
    options = {"cpus": cpus, "gpus": gpus, "memory": memory, "restarts": restarts, "queue": queue}
    content = json.loads(json.dumps(manifest(study, jobs, image, claim, **options)))  # no anchors
    print(yaml.safe_dump(content, sort_keys=False), end="")


@app.command()
def why(target: Annotated[str, typer.Argument(help="A study, or a file that the workflow makes.")]):
    """Print what changed since TARGET was made (parameters, code or data), and which jobs would run.

    Causes come first. A job whose key has been made before ends at once: it takes the result that was kept.
    """
    every = all_statuses()
    plans = make_plan(read_params())
    made_by = {path: status for status in every for path in status.job.outputs}
    if target in (*plans, "core", "all"):
        own = all_jobs(default_plans(target))
        wanted = [status for status in every if (status.job.rule, status.job.name) in own]
    elif (path := Path(target).as_posix()) in made_by:
        wanted = [made_by[path]]
    else:
        known = "it was made under other parameters, or is not ours" if Path(target).exists() else "nor is it a study"
        meant = "".join(f" Did you mean '{name}'?" for name in get_close_matches(target, [*plans, *made_by], n=1))
        raise JebmError(f"{target}: no job of the present {current_params_file()} makes this file; {known}.{meant}")
    found = pending(wanted, every)
    if not found:
        print(f"{target} is fresh: parameters, code and data are those that it was made from.")
        return
    print(f"{target} is not fresh:")
    for line in _causes(found):
        print(f"  {line}")
    counts = Counter(status.job.rule for status in found)
    print("would run: " + ", ".join(f"{rule} × {count}" for rule, count in counts.items()))
    if kept := sum(status.kept for status in found):
        print(f"{kept} of these jobs find their result among the kept ones and end at once")


def _causes(found: list[Status]) -> list[str]:
    """One line per cause: changed parameters, code and files, and then results that were never made.

    A change that several variants have in common is one line. Results that are stale only because of others are left
    out.
    """
    variants: dict[str, list[str]] = {}
    jobs: dict[str, list[str]] = {}
    for status in found:
        for line in status.changes:
            line = re.sub(r"/seed\d+/", "/seed*/", line)  # one line for all seeds
            name, of_variant = _of_variant(line)
            if name:
                variants.setdefault(of_variant, []).append(name)
            elif not (line == NOT_MADE and status.stale_inputs):
                jobs.setdefault(line, []).append(f"{status.job.rule} {status.job.name}")
    lines = [f"{line} ({_some(list(dict.fromkeys(names)))})" for line, names in variants.items()]
    never = {NOT_MADE: jobs.pop(NOT_MADE)} if NOT_MADE in jobs else {}
    return lines + [f"{line} ({_some(names)})" for line, names in (jobs | never).items()]


def _of_variant(line: str) -> tuple[str, str]:
    """The variant that a line about changed parameters names, and the line without it."""
    start, _, rest = line.partition("parameters: variants.")
    name, _, key = rest.partition(".")
    return (name, f"parameters: {key}") if rest and not start else ("", line)


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@app.command()
def verify(study: OptionalStudy = ""):
    """Check every finished result against its record, for instance after `dvc pull`; files that differ are named."""
    digests = DigestCache()
    jobs = list(all_jobs(plans_here(study)).values())
    wrong = {path: why for job in jobs for path, why in wrong_files(job, digests).items()}
    digests.save()
    there = sum(Path(job.provenance).exists() for job in jobs)
    if wrong:
        lines = [f"  {path}: {why}" for path, why in wrong.items()]
        shown = "\n".join(lines[:20]) + (f"\n  … and {len(lines) - 20} more" if len(lines) > 20 else "")
        raise JebmError(
            f"{len(wrong)} files are not what their records say:\n{shown}\n`snakemake --cores all` makes them anew"
        )
    checked = ", and all their files are what their records say" if there else ""
    print(f"{there} of {len(jobs)} results are here{checked}.")


@app.command()
def show(
    study: OptionalStudy = "",
    table: Annotated[str, typer.Option(help="Which of its tables; main, or else the first, when left out.")] = "",
):
    """Print a table of finished results, and the paths of tables, figures and report."""
    from jebm.report.terminal import fit_to_terminal

    for plan in default_plans(study):
        tables = list(plan.study.tables)
        shown = table or next((name for name in ("main", *tables[: bool(study)]) if name in tables), "main")
        path = plan.results / "tables" / f"{shown}.md"
        if study and shown not in tables:
            raise unknown(f"{plan.name} has no table '{shown}'", shown, tables)
        if shown in tables:
            if not path.exists():
                raise JebmError(f"{path}: no such file; `snakemake --cores all {path}` makes it")
            print(f"{fit_to_terminal(path.read_text(encoding='utf-8'))}\n")
        else:
            names = textwrap.fill(
                f"{plan.name}: {', '.join(plan.study.tables)}", 100, subsequent_indent="  ", break_on_hyphens=False
            )
            print(f"{names}\n  (`jebm show {plan.name} --table …`)")
        for name in ("tables", "figures", "metrics.csv"):
            print(f"{name:<12}{plan.results / name}")
    report = Path("results/report.html")
    command = f"make report TARGET={study}" if study else "make report"
    print(f"{'report':<12}{report}" if report.exists() else f"{'report':<12}`{command}` writes {report}")


@app.command()
def preview(study: Annotated[str, typer.Argument(help="A study of params.yaml.")]):
    """Print a study's tables from the runs that are finished; other cells are empty. Writes nothing."""
    from jebm.report.tables import preview as table_preview
    from jebm.report.terminal import fit_to_terminal

    for plan in default_plans(study):
        for name in plan.study.tables:
            print(f"{plan.results / 'tables' / name}\n\n{fit_to_terminal(table_preview(plan, name))}\n")
