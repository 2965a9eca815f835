"""The verbs that a person needs besides those of the rules: what is there, what would run and why, and what changed."""

import subprocess
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from jebm.config.read import PARAMS, overridden, read_params
from jebm.errors import JebmError
from jebm.io.digests import DigestCache
from jebm.pipeline.freshness import Status, settle, statuses
from jebm.pipeline.jobs import all_jobs
from jebm.pipeline.study import StudyPlan, make_plan

app = typer.Typer()

OptionalStudy = Annotated[str, typer.Argument(help="A study; all of default_studies when left out.")]


class Style(StrEnum):
    text = "text"
    markdown = "markdown"
    json = "json"


def default_plans(study: str = "") -> list[StudyPlan]:
    """The plan of one study, or of all default ones."""
    params = read_params(PARAMS)
    plans = make_plan(params)
    if study and study not in plans:
        raise JebmError(f"{PARAMS}: there is no study '{study}'; it has: {', '.join(plans)}")
    return [plans[name] for name in ([study] if study else params.default_studies)]


def all_statuses(plans: list[StudyPlan]) -> list[Status]:
    digests = DigestCache()
    result = list(statuses(all_jobs(plans), digests))
    digests.save()
    return result


@app.command()
def variants(study: OptionalStudy = ""):
    """Check params.yaml, and list each variant's stages with the folders they live in."""
    for plan in default_plans(study):
        print(f"{plan.name}: seeds {', '.join(map(str, plan.seeds))}")
        for name, variant in plan.variants.items():
            print(f"  {name}")
            parts = {kind: variant.stage(kind) for kind in ("dataset", "backbone", "prior", "samples")}
            for label, stage in (parts | variant.evaluations).items():
                if label == "prior" and not variant.learned:
                    print(f"    {label:<10}the backbone's own")
                    continue
                done = sum(all(Path(path).exists() for path in stage.files(seed)) for seed in plan.seeds)
                print(f"    {label:<10}{stage.folder}  ({done} of {len(plan.seeds)} seeds done)")


@app.command()
def assets(study: OptionalStudy = ""):
    """List the files from outside that a study needs: size, whether they are there and whole, and where they go.

    Ends with an error where the file in place is another one.
    """
    from jebm.pipeline.assets import inventory, refuse_wrong

    plans = default_plans(study)
    digests = DigestCache()
    needed = {name: plan.assets[name] for plan in plans for name in plan.asset_names()}
    print(inventory(needed, digests), flush=True)
    digests.save()
    refuse_wrong(needed, digests)


@app.command()
def plan(study: OptionalStudy = ""):
    """What would run, and what it costs by the run times recorded so far."""
    from jebm.report.pricing import price

    print(price(status for status in all_statuses(default_plans(study)) if not status.fresh))


@app.command()
def why(target: Annotated[str, typer.Argument(help="A file that the workflow makes, as Snakemake names it.")]):
    """What moved since TARGET was made (data, parameters or code), and which jobs would run."""
    every = all_statuses(list(make_plan(read_params(PARAMS)).values()))
    made_by = {path: status for status in every for path in status.job.outputs}
    path = Path(target).as_posix()
    if path not in made_by:
        known = "it was made under other parameters" if Path(path).exists() else "it does not exist either"
        raise JebmError(f"{target}: no job of the present {PARAMS} makes this file; {known}. See `jebm variants`")
    behind = _ancestors(made_by[path], made_by)
    pending = [status for status in behind if not status.fresh]
    if not pending:
        print(f"{target} is fresh: data, parameters and code are those that it was made from.")
        return
    print(f"{target} is stale:" if Path(path).exists() else f"{target} is not there yet:")
    lines = [line for status in pending for line in _explain(status)]
    for line in dict.fromkeys(lines):
        print(f"  {line}")
    counts = Counter(status.job.rule for status in pending)
    print("would run: " + ", ".join(f"{rule} × {count}" for rule, count in counts.items()))


def _ancestors(status: Status, made_by: dict[str, Status]) -> list[Status]:
    """The jobs behind a file, its own last."""
    seen: dict[str, Status] = {}

    def visit(current: Status) -> None:
        if current.job.provenance in seen:
            return
        for path in current.job.inputs:
            if path in made_by:
                visit(made_by[path])
        seen[current.job.provenance] = current

    visit(status)
    return list(seen.values())


def _explain(status: Status) -> list[str]:
    """The parts that moved; that a file is missing needs saying only where nothing else explains it."""
    return [line if not line.startswith("missing") else f"{line} ({status.job.rule})" for line in status.moved]


@app.command()
def adopt(study: OptionalStudy = ""):
    """Accept pulled results as finished, after checking that they belong to this code, these parameters and data.

    Nothing is trusted because of its time. Where something differs nothing is adopted, and the files are named.
    """
    plans = default_plans(study)
    every = all_statuses(plans)
    stale = [status for status in every if not status.fresh]
    if stale:
        lines = [f"  {status.job.outputs[0]}: {status.moved[0]}" for status in stale if status.moved]
        shown = "\n".join(lines[:20]) + (f"\n  … and {len(lines) - 20} more" if len(lines) > 20 else "")
        raise JebmError(
            f"not adopted: {len(stale)} of {len(every)} results do not belong to the checked-out code and parameters:\n"
            f"{shown}\n`dvc pull` brings what is missing; `snakemake --cores all` makes the rest"
        )
    digests = DigestCache()
    settle(every, digests)
    digests.save()
    print(f"Adopted: all {len(every)} results belong to the checked-out code, parameters and data.")


@app.command()
def show(
    study: OptionalStudy = "",
    table: Annotated[str, typer.Option(help="Which of its tables.")] = "main",
):
    """Print a table of finished results, and where tables, figures and report are."""
    for plan in default_plans(study):
        path = plan.results / "tables" / f"{table}.md"
        if study and table not in plan.study.tables:
            raise JebmError(f"{PARAMS}: {plan.name} has no table '{table}'; it has: {', '.join(plan.study.tables)}")
        if table in plan.study.tables:
            if not path.exists():
                raise JebmError(f"{path}: no such file; `snakemake --cores all {path}` makes it")
            print(path.read_text(encoding="utf-8"))
        else:
            print(f"{plan.name}: {', '.join(plan.study.tables)} (`jebm show {plan.name} --table …`)")
        for name in ("tables", "figures", "metrics.csv"):
            print(f"{name:<12}{plan.results / name}")
    report = Path("results/report.html")
    print(f"{'report':<12}{report}" if report.exists() else f"{'report':<12}`make report` writes {report}")


@app.command("import")
def import_checkpoint(
    format: Annotated[Literal["nvae"], typer.Argument(help="What wrote the checkpoint.")],
    checkpoint: Annotated[Path, typer.Argument(help="The file.")],
    output: Annotated[
        Path | None, typer.Option(help="Where the weights go; beside the checkpoint as .safetensors when left out.")
    ] = None,
):
    """Turn a published checkpoint into this project's format: weights and constructor arguments, no code.

    Nothing in the file is run, every key in it is accounted for, and the block for params.yaml is printed.
    """
    import yaml

    from jebm.models.checkpoints.base import write_imported
    from jebm.models.checkpoints.nvae import LICENCE, read_checkpoint, report

    output = output or checkpoint.with_suffix(".safetensors")
    if output.exists():
        raise JebmError(f"{output}: exists already; delete it, or name another file with --output")
    imported = read_checkpoint(checkpoint)
    write_imported(output, imported)
    block = {
        "backbone": {"name": imported.name, **imported.backbone},
        "train_backbone": None,
        "import_backbone": {"format": "jebm", "checkpoint": str(output)},
    }
    print(report(imported))
    print(f"written to   {output}\n\n{LICENCE}\n\nFor params.yaml:")
    print(yaml.safe_dump(block, sort_keys=False, default_flow_style=None).rstrip())


@app.command()
def preview(study: Annotated[str, typer.Argument(help="A study of params.yaml.")]):
    """Print a study's tables as far as its runs are finished; cells of the others are empty. Writes nothing."""
    from jebm.report.tables import preview as table_preview

    for plan in default_plans(study):
        for name in plan.study.tables:
            print(f"{plan.results / 'tables' / name}\n\n{table_preview(plan, name)}")


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="Before: a git revision, a DVC experiment or a folder of results.")],
    b: Annotated[str, typer.Argument(help="After; the working tree when left out.")] = "",
    study: Annotated[str, typer.Option(help="Which study.")] = "digits",
    metric: Annotated[list[str], typer.Option(help="Only this metric (repeatable), for instance fd.")] = [],  # noqa: B006
    style: Annotated[Style, typer.Option("--format", help="How to print.")] = Style.text,
):
    """Compare results, and say which differences exceed the noise over seeds.

    A difference is called better or worse when it holds among all comparisons made (Holm's procedure at 5 %), and
    "maybe" when only its own 95 % Welch interval excludes 0. Exit status: 0 nothing is worse, 1 something is, 2 nothing
    could be compared.
    """
    from jebm.report import diff as module

    try:
        rows = module.compare(module.load_version(a, study), module.load_version(b or None, study), set(metric) or None)
        if not rows:
            raise JebmError("no metric to compare" + (f" among {', '.join(metric)}" if metric else ""))
    except JebmError as error:
        error.exit_code = 2  # 1 means that something is worse
        raise
    names = (a, b or "working tree")
    if style is Style.json:
        print(module.as_json(rows, names))
    else:
        print(module.as_text(rows, names, "pipe" if style is Style.markdown else "simple"))
    raise typer.Exit(1 if any(row.verdict == "worse" for row in rows) else 0)


@app.command()
def compare_recorded(study: OptionalStudy = ""):
    """How fresh results compare with the recorded ones of the last commit, value by value."""
    from jebm.report.diff import agreement, load_version

    for plan in default_plans(study):
        inside = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, check=False)
        if inside.returncode != 0:
            print("No git history here: there are no recorded results to compare with.")
            return
        try:
            recorded = load_version("HEAD", plan.name)
        except JebmError:
            print(f"{plan.name}: the last commit has no recorded results to compare with.")
            continue
        print(f"{plan.name}: {agreement(recorded, load_version(None, plan.name))}")


@app.command()
def embed(documents: Annotated[list[Path], typer.Argument(help="Markdown files with marked tables.")]):
    """Bring the tables that stand inside documents up to date with the rendered ones."""
    from jebm.report.embed import embed as update

    for document in documents:
        print(f"{document}: {update(document)} tables")


@app.command()
def bench(
    study: Annotated[str, typer.Argument(help="A study of params.yaml.")],
    variant: Annotated[list[str], typer.Option(help="Only this variant (repeatable); all when left out.")] = [],  # noqa: B006
    seconds: Annotated[float, typer.Option(help="About how long to measure, all together.", min=0)] = 60.0,
    device: Annotated[str, typer.Option(help="cpu, cuda …; the study's own, or the CPU, when left out.")] = "",
    shape: Annotated[str, typer.Option(help="Shape of an image, for data not prepared yet: 3,32,32.")] = "",
    sweep: Annotated[bool, typer.Option(help="How cost grows with batch, chain steps, layers and image size.")] = False,
    override: Annotated[str, typer.Option(help="A block laid over each variant: 'backbone: {groups: [2]}'.")] = "",
    name: Annotated[str, typer.Option(help="Of the files; needed with --override.")] = "",
):
    """Measure what a study costs on this machine: steps of training, chains and samples a second, and peak memory.

    The networks are the study's own at their real sizes, with random weights; the pixels are noise, so no data is
    needed. Chains and joint steps that are unadjusted Langevin are timed in turn with a plain transcription of the
    same (two calls of autograd a step, all weights requiring gradients). A row that would take longer than its part
    of --seconds is measured on as much of a batch as fits, and says so.

    Writes results/STUDY/bench.md and .csv, or with --sweep scaling.md and .csv for one variant; with --name, files of
    that name. --override measures the variants with other parameters, such as a network that fits this machine.

    \b
    jebm bench digits                                   all variants, a minute
    jebm bench digits --variant joint-k20 --seconds 10  one of them
    jebm bench digits --variant joint-k20 --sweep       batch, chain, layers and size, one at a time
    jebm bench cifar10_deep --override 'backbone: {checkpointing: true}' --name checkpointed
    snakemake --cores all benchmark                     every study of params.yaml
    """
    import os
    from dataclasses import replace

    from jebm.cli import main as cli

    if cli.forked:
        raise cli.NeedsOwnProcess  # for its own number of threads, or a GPU
    plans = make_plan(read_params(PARAMS))
    if study not in plans:
        raise JebmError(f"{PARAMS}: there is no study '{study}'; it has: {', '.join(plans)}")
    plan = plans[study]
    for label in variant:
        if label not in plan.variants:
            raise JebmError(f"{PARAMS}: study '{study}' has no variant '{label}'; it has: {', '.join(plan.variants)}")
    if shape and not all(part.isdigit() and int(part) for part in shape.split(",")):
        raise JebmError(f"--shape: '{shape}' must be whole numbers from 1 with commas between them, such as 3,32,32")
    if bool(override) != bool(name):
        raise JebmError("--override: comes with --name, so that its numbers don't stand where the study's own do")
    if name and not name.replace("-", "").isalnum():
        raise JebmError(f"--name: '{name}' must be letters, digits and hyphens")
    for label in variant or plan.variants if override else ():
        changed = overridden(plan.variants[label].params, override, f"--override: variant '{label}'")
        plan.variants[label] = replace(plan.variants[label], params=changed)
    threads = max(plan.variants[label].params.compute.threads for label in variant or plan.variants)
    for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[key] = str(threads)  # before torch is imported: it sizes its pools then
    from jebm.bench import study as benchmark
    from jebm.bench import sweeps

    size = [int(part) for part in shape.split(",")] if shape else None
    run = sweeps.run if sweep else benchmark.run
    path = run(plan, variant or list(plan.variants), seconds, device, size, *([name, override] if name else []))
    print(path.read_text(encoding="utf-8"))
    print(path)
