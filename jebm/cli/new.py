"""``jebm new``: a study of one's own, from a look at the data."""

import os
import re
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from jebm.cli.survey import Survey, choose, look
from jebm.config.files import current_params_file
from jebm.config.read import read_params, study_name_problem
from jebm.errors import JebmError
from jebm.pipeline.preflight import refuse_impossible
from jebm.pipeline.study import StudyPlan, make_plan

app = typer.Typer(help="Start a study of your own.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Start a study of your own."""  # with this, a group of one command needs the command's name


@app.command()
def pictures(
    path: Annotated[Path, typer.Argument(help="A folder of pictures, with folders in it or without; or a zip file.")],
    study: Annotated[str, typer.Option(help="Name of the study.")] = "pictures",
    seconds: Annotated[float, typer.Option(help="How long to measure what it will cost; 0: not at all.", min=0)] = 10,
):
    """Write the parameter file of a study of your own pictures, with settings chosen by what is in the folder.

    Nothing is trained. Prints what was found, what the study will cost on this machine, and the command that runs it.
    """
    file = _free_file(study)
    survey = look(path.expanduser())
    choice = choose(survey)
    file.parent.mkdir(exist_ok=True)
    where = os.path.relpath(survey.path) if survey.path.resolve().is_relative_to(Path.cwd()) else survey.path.resolve()
    text = Template(TEXT.lstrip()).substitute(choice.settings(), path=where, found=survey.found())
    file.write_text(_aligned(text), encoding="utf-8")
    try:
        plan = make_plan(read_params())[study]
        refuse_impossible(plan)
    except JebmError:
        file.unlink()
        raise
    print(f"{survey.path}: {survey.found()}")
    print(f"{file}: written; every setting can be changed there before the first run")
    print(f"\nimages     {choice.size}×{choice.size} pixels, {choice.channels_name}; {choice.splits()}")
    if choice.channels == 1 and not survey.grey:
        print("           grey, because in colour a covariance of the pixels needs more pictures")
    if seconds:
        print(f"cost       {_cost(plan, survey, seconds)}")
    print(f"check      snakemake -n {study} --quiet=rules")
    print(f"run        snakemake --cores all {study}")
    print(f"results    jebm show {study}; {plan.results}/figures/samples.png")


def _aligned(text: str) -> str:
    """The text with the comments behind settings in one column."""
    return re.sub(r"(?m)^( *[^\s#][^#\n]*?) {2,}(#.*)$", lambda found: f"{found[1]:<32}  {found[2]}", text)


def _free_file(study: str) -> Path:
    if problem := study_name_problem(study):
        raise JebmError(f"--study: {problem}")
    if study in read_params().studies:
        raise JebmError(f"there is a study '{study}' already; name another by --study, or delete its block or file")
    return current_params_file().with_suffix("") / f"{study}.yaml"


def _cost(plan: StudyPlan, survey: Survey, seconds: float) -> str:
    """The time of a run on all cores of this machine, from a short measurement of training steps and samples."""
    from jebm.bench.study import choose_device, image_shape, measured_rows
    from jebm.pipeline.jobs import all_jobs

    print(f"measuring for about {seconds:.0f} s …", flush=True)
    seen, hours = set(), 0.0
    for name, variant in plan.variants.items():
        place, shape = choose_device(variant.params.compute), image_shape(variant)
        rows = measured_rows(name, variant.params, shape, place, seconds / len(plan.variants), seen)
        hours += sum(row["hours"] or 0.0 for row in rows if "chain" not in row["what"])
    jobs, cores = len(all_jobs([plan])), os.cpu_count() or 1
    work = hours * 3600 * len(plan.seeds) + JOB_SECONDS * jobs
    minutes = max(1, round((survey.seconds * survey.count + work / min(cores, len(plan.seeds))) / 60))
    megabytes = 20 + survey.count * 0.002 + len(plan.seeds) * len(plan.variants) * 4
    return (
        f"about {minutes} to {2 * minutes + 1} minutes on the {cores} cores of this machine if nothing else runs "
        f"({jobs} jobs); about {megabytes:.0f} MB on disk"
    )


JOB_SECONDS = 2.5
"""Rough time of a job without training."""

TEXT = """
# yaml-language-server: $$schema=../params.schema.json
# A study of your own pictures, written by `jebm new pictures`. Change what you like: unknown keys, and settings that
# can't work, are refused before anything runs. docs/parameters.md explains every key.
# Found: $found

seeds: [1, 2, 3]                  # everything is trained once per seed; tables give mean and standard deviation

compute:
  device: cpu                     # or cuda
  threads: 1                      # per job; several jobs run side by side

dataset:
  name: images
  source: {name: folder, path: '$path'}
  size: $size                        # height and width; of each picture the central square is resized to it
  mode: $mode                       # rgb or grey
  background: white               # shown behind transparent pixels
  upscale: $upscale                  # whether pictures that are smaller than `size` are enlarged, or refused
  max_unreadable_fraction: $unreadable          # largest share of damaged files that is left out; 0 refuses the first
  split_seed: 0                   # draws the splits
  validation_count: $validation           # for choosing settings
  test_count: $test                # for the tables; the other pictures ($train) train

features:
  name: identity                  # the pixels. A Fréchet distance in $features pixels needs more pictures than that in
                                  # the test split, in training and among the samples, which is why `size` is $size

backbone:                         # a hierarchy of two layers, each fed by the one above
  name: perceptron
  latent_dims: [$bottom, $top]           # of each layer, bottom first
  hidden: $hidden
  depth: 2
  likelihood: {name: gaussian, sigma: 0.2}    # p(x|z) = N(G(z), sigma²), pixels in [-1, 1]

train_backbone:                   # stage 1
  steps: $steps                     # about $epochs passes through the training pictures
  batch_size: $batch
  learning_rate: 1.0e-3
  weight_decay: 0.01
  kl_warmup: [[0.0, 0.05], [0.05, 0.3]]   # per layer, bottom first: the upper one starts later

prior:
  name: ebm                       # the Gaussian prior of the hierarchy, tilted by exp f(z)
  energy:
    name: layerwise               # f(z) = Σ f_i(z_i)
    hidden: 128
    depth: 2
    layers: all
  proposal: {name: mixture, components: [5, 10]}    # for importance sampling: in training, for log Z, and of samples

train_prior:                      # stage 2, on the frozen backbone: maximum likelihood
  steps: 600
  batch_size: $batch
  learning_rate: 6.0e-3
  weight_decay: 0.3
  warmup_steps: 30
  schedule: linear
  final_learning_rate: 0.1
  ema: 0.99
  estimator: {name: importance, pool: 2048}         # of the gradient of log Z; docs/likelihood.md has the others
  select: {every: 50}             # the step with the best likelihood of the validation pictures

draw_samples:
  count: $samples                     # per seed
  sampler: {name: resampling, pool: 200000}         # samples of the learned density

evaluate_samples:
  reference: test                 # `validation` while you choose settings

evaluate_density:
  reference: test
  importance_samples: 50
  detection_samples: 0            # no outliers here
  partition_samples: 100000

variants:
  gaussian: {prior: {name: gaussian}, draw_samples: {sampler: {name: ancestral}}}
  mixture:                        # the cheap baseline: a Gaussian mixture, fitted after training
    prior: {name: mixture, components: [5, 10, 20]}
    draw_samples: {sampler: {name: ancestral}}
  posterior:                      # decoded draws of the inference network: the best that a prior can reach
    prior: {name: aggregate-posterior, draws: 40}
    draw_samples: {sampler: {name: ancestral}}
  likelihood: {}                  # the joint EBM prior

headline:                         # what `dvc metrics show` prints
  fd: {variants: [likelihood], metric: fd}
  iw: {variants: [likelihood], metric: iw_bound}

tables:
  main:
    metrics: [fd, kd, iw_bound, log_z_ess, log_z_gap]
    caption: >-
      The joint EBM prior against the Gaussian prior of the same generator, a mixture, and decoded posterior draws.

figures:
  samples: [gaussian, mixture, likelihood]
  training: [likelihood]
"""
