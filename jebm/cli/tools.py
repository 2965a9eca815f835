"""Commands that compare, convert and measure: diff, compare-recorded, timings, import, update-docs, bench, prune."""

import shutil
import subprocess
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from jebm.cli.inspect import OptionalStudy, all_statuses, default_plans, flowchart
from jebm.config.messages import LISTED, suggestion, unknown
from jebm.config.read import read_params, with_overrides
from jebm.errors import JebmError
from jebm.metrics.catalogue import METRICS
from jebm.pipeline.stages import RESULTS
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
    """Convert a published checkpoint to this project's format, which holds weights and constructor arguments.

    No code in the file is executed, and every key must be known. Prints the block for params.yaml.
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
    a: Annotated[str, typer.Argument(help="Before: a git revision, a DVC experiment or a folder of results.")] = "HEAD",
    b: Annotated[str, typer.Argument(help="After; the working tree when left out.")] = "",
    study: Annotated[str, typer.Option(help="Which study.")] = "digits",
    metric: Annotated[list[str], typer.Option(help="Only this metric (repeatable), for instance fd.")] = [],  # noqa: B006
    style: Annotated[Style, typer.Option("--format", help="How to print.")] = Style.text,
):
    """Compare results, and say which differences exceed the noise over seeds.

    A difference is called better or worse when it holds among all comparisons made (Holm's procedure at 5 %), and
    "maybe" when only its own 95 % interval excludes 0. Intervals are paired by seed where both sides have the same
    seeds, and Welch's otherwise; docs/tables.md says how often a difference is found. Exit status: 0 nothing is worse,
    1 something is, 2 nothing could be compared.
    """
    from jebm.report import diff as module
    from jebm.report.status import outdated_studies

    try:
        if study not in (plans := make_plan(read_params())) and not (RESULTS / study).exists():
            raise unknown(f"there is no study '{study}'", study, plans)
        for name in set(metric) - METRICS.keys():
            raise JebmError(f"--metric: there is no metric '{name}';{suggestion(name, METRICS, LISTED)}")
        versions = module.load_version(a, study), module.load_version(b or None, study)
        rows = module.compare(*versions, set(metric) or None)
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
        for line in module.renamed_steps(*versions):
            print(line)
        if not b and style is Style.text and study in outdated_studies(all_statuses()):
            print(f"The working tree's metrics were not made with its parameters and code: run `snakemake … {study}`.")
    raise typer.Exit(1 if any(row.verdict == "worse" for row in rows) else 0)


@app.command()
def compare_recorded(study: OptionalStudy = ""):
    """Compare fresh results with those recorded in the last commit, value by value."""
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
def timings(
    study: OptionalStudy = "",
    record: Annotated[bool, typer.Option("--record", help="Also write results/STUDY/timings.md.")] = False,
):
    """Print how long the finished runs of a study took, by the clock. No other table or file of results says it."""
    from jebm.report import timings as module
    from jebm.report.terminal import fit_to_terminal

    for plan in default_plans(study):
        print(fit_to_terminal(module.timing_table(plan, module.measured(plan))))
        if record:
            print(module.record(plan))


@app.command()
def update_docs(documents: Annotated[list[Path], typer.Argument(help="Markdown files with marked tables.")]):
    """Replace the tables in documents by the rendered ones, and flowcharts by those of `jebm graph`."""
    from jebm.report.update_docs import update_charts, update_tables

    for document in documents:
        print(f"{document}: {update_tables(document)} tables, {update_charts(document, flowchart)} flowcharts")


@app.command()
def bench(
    study: Annotated[str, typer.Argument(help="A study of params.yaml.")],
    variant: Annotated[list[str], typer.Option(help="Only this variant (repeatable); all when left out.")] = [],  # noqa: B006
    seconds: Annotated[float, typer.Option(help="About how long to measure, all together.", min=0)] = 60.0,
    device: Annotated[str, typer.Option(help="cpu, cuda …; the study's own, or the CPU, when left out.")] = "",
    shape: Annotated[str, typer.Option(help="Shape of an image, for data not prepared yet: 3,32,32.")] = "",
    sweep: Annotated[bool, typer.Option(help="How cost grows with batch, chain steps, layers and image size.")] = False,
    set_: Annotated[
        str, typer.Option("--set", help="A block laid over each variant: 'backbone: {layers_per_scale: [2]}'.")
    ] = "",
    output: Annotated[str, typer.Option(help="Name of the files; required with --set.")] = "",
):
    """Measure what a study costs on this machine: training steps, chains and samples per second, and peak memory.

    The networks have the study's real sizes and random weights; the pixels are noise, so no data are needed. Unadjusted
    Langevin chains and joint training steps are timed alternately with a plain transcription (two calls of autograd per
    step, with gradients for all weights). A workload that would take longer than its part of --seconds is measured on
    as much of a batch as fits, and the table says so.

    Writes results/STUDY/bench.md and .csv, or with --sweep scaling.md and .csv for one variant; with --output, files of
    that name. --set measures the variants with other parameters, such as a network that fits this machine.

    \b
    jebm bench digits                                   all variants, a minute
    jebm bench digits --variant short-run --seconds 10  one of them
    jebm bench digits --variant short-run --sweep       batch, chain, layers and size, one at a time
    jebm bench cifar10_deep --set 'backbone: {checkpointing: true}' --output checkpointed
    snakemake --cores all benchmark                     every study of params.yaml
    """
    import os
    from dataclasses import replace

    (plan,) = default_plans(study)
    for label in variant:
        if label not in plan.variants:
            raise unknown(f"study '{study}' has no variant '{label}'", label, plan.variants)
    if shape and not all(part.isdigit() and int(part) for part in shape.split(",")):
        raise JebmError(f"--shape: '{shape}' must be whole numbers from 1 with commas between them, such as 3,32,32")
    if bool(set_) != bool(output):
        raise JebmError("--set: comes with --output, so that its numbers don't replace those of the study")
    if output and not output.replace("-", "").isalnum():
        raise JebmError(f"--output: '{output}' must be letters, digits and hyphens")
    variants = {label: plan.variants[label] for label in variant or plan.variants}
    for label, own in variants.items() if set_ else ():
        variants[label] = replace(own, params=with_overrides(own.params, set_, f"--set: variant '{label}'"))
    threads = max(own.params.compute.threads for own in variants.values())
    os.environ |= thread_variables(threads)  # before the import of torch, which sizes its thread pools
    from jebm.bench import study as benchmark
    from jebm.bench import sweeps

    size = [int(part) for part in shape.split(",")] if shape else None
    request = benchmark.Request(plan, variants, seconds, device, size, output, set_)
    path = sweeps.run(request) if sweep else benchmark.run(request)
    print(path.read_text(encoding="utf-8"))
    print(path)


CHECKED_ON_CPU = ["digits/short-run"]
CHECKED = ["cifar10/paper-mcmc", "svhn/paper-variational", "celeba64/ours-two-stage"]
CHECKED_WITH_CHECKPOINTING = ["celebahq256_scratch/gaussian"]
"""What `jebm gpu-check` measures when no variants are named: STUDY/VARIANT."""


@app.command()
def gpu_check(
    device: Annotated[str, typer.Option(help="The device to measure; cpu tries the command itself.")] = "cuda",
    seconds: Annotated[float, typer.Option(help="About how long to measure, all together.", min=1)] = 600.0,
    variant: Annotated[list[str], typer.Option(help="STUDY/VARIANT to measure (repeatable).")] = [],  # noqa: B006
    deep: Annotated[list[str], typer.Option(help="STUDY/VARIANT with checkpointing (repeatable).")] = [],  # noqa: B006
):
    """Measure a GPU with this project: rates, agreement with the CPU, costs of the image studies, memory of a step.

    Writes results/gpu/DEVICE.md. `make gpu-check` runs the tests that need a GPU, too. On the CPU the core study is
    measured unless variants are named, since the image studies would take hours.
    """
    import os

    on_cpu = device == "cpu"
    variant = variant or (CHECKED_ON_CPU if on_cpu else CHECKED)
    deep = deep or ([] if on_cpu else CHECKED_WITH_CHECKPOINTING)
    plans = make_plan(read_params())

    def found(label: str):
        study, _, name = label.partition("/")
        if study not in plans:
            raise unknown(f"--variant: there is no study '{study}'", study, plans)
        if name not in plans[study].variants:
            raise unknown(f"--variant: '{study}' has no variant '{name}'", name, plans[study].variants)
        return plans[study].variants[name]

    chosen, with_checkpointing = ({label: found(label) for label in labels} for labels in (variant, deep))
    os.environ |= thread_variables(next(iter(chosen.values())).params.compute.threads)  # before the import of torch
    from jebm.bench.gpu_check import run
    from jebm.bench.study import choose_device

    path = run(chosen, with_checkpointing, choose_device(next(iter(chosen.values())).params.compute, device), seconds)
    print(path.read_text(encoding="utf-8"))
    print(path)


@app.command()
def prune(
    days: Annotated[float, typer.Option(help="Keep results that were made or used within this many days.", min=0)] = 14,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without it, only say what would go.")] = False,
):
    """Delete results that no study of the parameters names, and kept results of old keys.

    Tables and figures in results/ stay. Without --yes, only prints what would be deleted and its size. The studies are
    those of the present parameter file: results that only another one names, such as `jebm --params mine.yaml`, count
    as not named.
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
