"""The command line: one verb a rule of the workflow, and the verbs a person needs.

Heavy imports happen inside the verbs, so that ``jebm --help`` is quick.
"""

import os
import sys
from typing import Annotated

import typer

from jebm.cli import inspect as verbs
from jebm.config.components import load
from jebm.config.read import PARAMS, read_params
from jebm.config.schema import Compute, Params
from jebm.errors import JebmError
from jebm.pipeline.freshness import recorded, unrecorded
from jebm.pipeline.jobs import devices_of, report_jobs, stage_job, stage_target
from jebm.pipeline.restore import keep
from jebm.pipeline.study import StudyPlan
from jebm.runtime import launch
from jebm.runtime.processes import leave

app = typer.Typer(
    help="Joint latent-space EBM priors for multi-layer generators, as a reproducible study.\n\n"
    "`snakemake --cores all` runs everything; each verb below runs one step of it by hand. "
    "All experiment settings come from params.yaml. Start with `jebm variants`, `jebm plan` and `jebm show`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.registered_commands += verbs.app.registered_commands

StudyName = Annotated[str, typer.Argument(help="A study of params.yaml, for instance digits.")]
StageId = Annotated[str, typer.Option("--id", help="The stage's identity (its folder's suffix); see `jebm variants`.")]
VariantName = Annotated[str, typer.Option("--variant", help="A variant of the study, instead of --id.")]
Seed = Annotated[int, typer.Option(help="The run's seed.")]

forked = False
"""Whether this process is a fork of ``jebm.forkserver``, with NumPy and torch imported for one thread and no GPU."""


class NeedsOwnProcess(Exception):  # noqa: N818 - no error: the client of the server does the work instead
    """A fork can't do this job as a process of its own would."""


def _plan(study: str, params: Params | None = None) -> StudyPlan:
    params = params or read_params(PARAMS)
    if study not in params.studies:
        raise JebmError(f"{PARAMS}: there is no study '{study}'; it has: {', '.join(params.studies)}")
    return StudyPlan(study, params.studies[study], params.assets)


def _run(study: str, kind: str, id: str, variant: str, seed: int | None) -> None:
    """Run the job that makes one stage, and record what it was made from."""
    params = read_params(PARAMS)
    plan = _plan(study, params)
    if bool(id) == bool(variant):
        raise JebmError("name the stage by exactly one of --id and --variant")
    if variant and variant not in plan.variants:
        raise JebmError(f"{PARAMS}: study '{study}' has no variant '{variant}'; it has: {', '.join(plan.variants)}")
    found = plan.variants[variant] if variant else plan.find(kind, id)
    stages = [stage for stage in found.stages(kind) if stage.id == id or (variant and not id)]
    if not stages:
        raise JebmError(f"{PARAMS}: '{variant}' has no {kind} stage; see `jebm variants`")
    if len(stages) > 1:
        known = ", ".join(f"{label} {stage.id}" for label, stage in found.evaluations.items())
        raise JebmError(f"'{variant}' has several of them, name one by --id: {known}")
    if kind == "prior" and not found.learned:
        raise JebmError(f"the {found.params.prior.name} prior has nothing to learn; `jebm draw-samples` needs no more")
    if forked and found.params.compute != Compute(device="cpu", threads=1):
        raise NeedsOwnProcess
    devices = devices_of(kind, found)
    _start_ranks(devices)
    # Before NumPy and torch load: their thread pools are sized at import, and rounding depends on the size.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(found.params.compute.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products on a GPU
    job = stage_job(plan, found, stages[0], seed)
    with (recorded if launch.leads() else unrecorded)(job) as facts:
        from jebm.runtime.distributed import joined
        from jebm.steps.common import Run

        run = load(stage_target(kind))
        seconds, on_device = params.runtime.checkpoint_seconds, params.runtime.data_on_device
        with joined(devices, found.params.compute.device):
            facts |= run(Run(plan, found, stages[0], seed, seconds, facts["code"], on_device)) or {}
    if launch.leads():
        keep(job)


def _start_ranks(devices: int) -> None:
    """See that this process is one of as many as the job needs; a process alone starts them and exits as they do."""
    started = launch.launched()
    if started not in (0, devices):
        raise JebmError(f"{PARAMS}: this job is one for {devices} devices, but was started as {started} processes")
    if devices > 1 and not started:
        leave(launch.launch(devices, sys.argv[1:]))
    launch.hold_lifeline()


def _report(study: str, rule: str, name: str, target: str, *arguments: str) -> None:
    """Run a job that writes to results/, and record what it was made from."""
    plan = _plan(study)
    jobs = {job.name: job for job in report_jobs(plan) if job.rule == rule}
    if name not in jobs:
        raise JebmError(
            f"{PARAMS}: study '{study}' has no {rule.removeprefix('render_')} '{name}'; it has: {', '.join(jobs)}"
        )
    with recorded(jobs[name]):
        load(target)(plan, *arguments)
    keep(jobs[name])


@app.command()
def fetch_asset(name: Annotated[str, typer.Argument(help="A key of the block assets of params.yaml.")]):
    """Fetch a file from outside, or see that the one in its place is the right one."""
    from jebm.pipeline.download import fetch

    assets = read_params(PARAMS).assets
    if name not in assets:
        raise JebmError(f"{PARAMS}: there is no asset '{name}'; it has: {', '.join(assets)}")
    fetch(name, assets[name])


@app.command()
def prepare_dataset(study: StudyName, id: StageId = "", variant: VariantName = ""):
    """Write a dataset's images and manifest."""
    _run(study, "dataset", id, variant, None)


@app.command()
def train_features(study: StudyName, id: StageId = "", variant: VariantName = ""):
    """Train the classifier that the Fréchet and kernel distances look through."""
    _run(study, "features", id, variant, None)


@app.command()
def reference_statistics(study: StudyName, id: StageId = "", variant: VariantName = ""):
    """Mean and covariance of the features of the images that samples are compared with."""
    _run(study, "reference", id, variant, None)


@app.command()
def train_backbone(study: StudyName, seed: Seed, id: StageId = "", variant: VariantName = ""):
    """Stage 1: train the hierarchy and its inference network by the ELBO."""
    _run(study, "backbone", id, variant, seed)


@app.command()
def import_backbone(study: StudyName, id: StageId = "", variant: VariantName = ""):
    """Instead of stage 1: take a backbone's weights from a file that was trained elsewhere."""
    _run(study, "imported", id, variant, None)


@app.command()
def train_prior(study: StudyName, seed: Seed, id: StageId = "", variant: VariantName = ""):
    """Stage 2: learn the prior on the frozen backbone."""
    _run(study, "prior", id, variant, seed)


@app.command()
def train_joint(study: StudyName, seed: Seed, id: StageId = "", variant: VariantName = ""):
    """Train hierarchy, inference network and energies at once."""
    _run(study, "joint", id, variant, seed)


@app.command()
def draw_samples(study: StudyName, seed: Seed, id: StageId = "", variant: VariantName = ""):
    """Draw images from a prior."""
    _run(study, "samples", id, variant, seed)


@app.command()
def resample_layers(study: StudyName, seed: Seed, id: StageId = "", variant: VariantName = ""):
    """Redraw one layer of some samples while the others stay."""
    _run(study, "layers", id, variant, seed)


@app.command()
def evaluate_samples(study: StudyName, seed: Seed, id: StageId = "", variant: VariantName = ""):
    """Fréchet and kernel distance of all variants' samples to held-out images."""
    _run(study, "sample-metrics", id, variant, seed)


@app.command()
def evaluate_floor(study: StudyName, id: StageId = "", variant: VariantName = ""):
    """The same distances for real images against real images."""
    _run(study, "floor", id, variant, None)


@app.command()
def evaluate_density(study: StudyName, seed: Seed, id: StageId = "", variant: VariantName = ""):
    """Bounds on log p(x), the partition function, and outlier detection, for all priors of a backbone."""
    _run(study, "density-metrics", id, variant, seed)


@app.command()
def evaluate(study: StudyName, seed: Seed, id: StageId = "", variant: VariantName = ""):
    """One of the further evaluations that a variant asks for."""
    _run(study, "evaluation", id, variant, seed)


@app.command("launch", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def launch_ranks(
    context: typer.Context,
    devices: Annotated[int, typer.Option(min=1, help="How many processes: the job's compute.devices.")],
):
    """Run a verb as several processes that share its work, each on a device of its own.

    For instance `jebm launch --devices 2 train-prior …`. The verbs do this by themselves when compute.devices says so;
    the workflow's rules say it for all to see.
    """
    if forked:
        raise NeedsOwnProcess
    leave(launch.launch(devices, context.args))


@app.command()
def collect_metrics(study: StudyName):
    """Gather the metrics of all runs into results/STUDY/metrics.csv and metrics.json."""
    _report(study, "collect_metrics", "", "jebm.report.collect:collect")


@app.command()
def collect_plots(study: StudyName):
    """Write the small tables behind `dvc plots`."""
    _report(study, "collect_plots", "", "jebm.report.plots:collect_plots")


@app.command()
def render_table(study: StudyName, name: Annotated[str, typer.Argument(help="A table of the study.")]):
    """Render a table as Markdown, CSV and LaTeX from the collected metrics."""
    _report(study, "render_table", name, "jebm.report.tables:render", name)


@app.command()
def render_figure(study: StudyName, name: Annotated[str, typer.Argument(help="A figure of the study.")]):
    """Render a figure as PNG and PDF from what the runs left."""
    _report(study, "render_figure", name, "jebm.report.render:render", name)


def main() -> None:
    """Entry point: every mistake of a user ends in one message and a non-zero status, without a traceback."""
    try:
        app(prog_name="jebm")
    except JebmError as error:
        launch.tell(str(error), error.exit_code)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that can't be written to …
        where = f"{error.filename}: " if error.filename else ""
        launch.tell(f"{where}{error.strerror or error}", 1)
        sys.exit(1)
