"""Commands that compare, convert and measure: diff, compare-recorded, import, update-docs, bench, prune."""

import shutil
import subprocess
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from jebm.cli.inspect import OptionalStudy, default_plans
from jebm.config.messages import unknown
from jebm.config.read import read_params, with_overrides
from jebm.errors import JebmError
from jebm.pipeline.study import make_plan
from jebm.runtime.threads import thread_variables

app = typer.Typer()


class Style(StrEnum):
    text = "text"
    markdown = "markdown"
    json = "json"


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
        except JebmError as error:
            print(f"{plan.name}: there are no recorded results to compare with: {error}")
            continue
        print(f"{plan.name}: {agreement(recorded, load_version(None, plan.name))}")


@app.command()
def update_docs(documents: Annotated[list[Path], typer.Argument(help="Markdown files with marked tables.")]):
    """Replace the tables in documents by the rendered ones."""
    from jebm.report.update_docs import update_tables

    for document in documents:
        print(f"{document}: {update_tables(document)} tables")


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

    plans = make_plan(read_params())
    if study not in plans:
        raise unknown(f"there is no study '{study}'", study, plans)
    plan = plans[study]
    for label in variant:
        if label not in plan.variants:
            raise unknown(f"study '{study}' has no variant '{label}'", label, plan.variants)
    if shape and not all(part.isdigit() and int(part) for part in shape.split(",")):
        raise JebmError(f"--shape: '{shape}' must be whole numbers from 1 with commas between them, such as 3,32,32")
    if bool(override) != bool(name):
        raise JebmError("--override: comes with --name, so that its numbers don't stand where the study's own do")
    if name and not name.replace("-", "").isalnum():
        raise JebmError(f"--name: '{name}' must be letters, digits and hyphens")
    for label in variant or plan.variants if override else ():
        changed = with_overrides(plan.variants[label].params, override, f"--override: variant '{label}'")
        plan.variants[label] = replace(plan.variants[label], params=changed)
    threads = max(plan.variants[label].params.compute.threads for label in variant or plan.variants)
    os.environ |= thread_variables(threads)  # before the import of torch, which sizes its thread pools
    from jebm.bench import study as benchmark
    from jebm.bench import sweeps

    size = [int(part) for part in shape.split(",")] if shape else None
    run = sweeps.run if sweep else benchmark.run
    path = run(plan, variant or list(plan.variants), seconds, device, size, *([name, override] if name else []))
    print(path.read_text(encoding="utf-8"))
    print(path)


@app.command()
def prune(
    days: Annotated[float, typer.Option(help="Keep results that were made or used within so many days.", min=0)] = 14,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without it, only say what would go.")] = False,
):
    """Delete results that nothing needs any more: what no study of the parameters names, and kept results of old keys.

    Recorded tables and figures in results/ stay. Says what would go and how large it is, and asks for --yes.
    """
    from jebm.pipeline.prune import total_size, unneeded

    found = unneeded(make_plan(read_params()), days)
    if not found:
        print("Nothing to delete: a study names everything that is here, or it was used lately.")
        return
    for path in found[:40]:
        print(f"{total_size([path]) / 1e6:>10.1f} MB  {path}")
    if len(found) > 40:
        print(f"{'…':>10}     and {len(found) - 40} more")
    print(f"{total_size(found) / 1e6:>10.1f} MB  in all")
    if not yes:
        raise JebmError("nothing was deleted; `jebm prune --yes` deletes it")
    for path in found:
        shutil.rmtree(path)
    print("Deleted.")
