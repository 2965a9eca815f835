"""All jobs of a study: their inputs and outputs, the parameters that they use, and the code that they run.

Snakemake's rules, ``jebm run``, ``jebm why`` and ``jebm plan`` take their jobs from here.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from jebm.config.assets import asset_names, data_paths
from jebm.config.catalogue import FIGURES, IMPORTERS
from jebm.config.components import blocks_in
from jebm.config.tables import FIELDS, parameter
from jebm.pipeline.code_digest import entry_modules
from jebm.pipeline.item_shape import item_shape
from jebm.pipeline.stages import KINDS, REPORTS, STAMPS, Stage
from jebm.pipeline.study import StudyPlan, Variant

SMALL_IMAGE = 64
"""Number of values of an image whose shape the parameters do not tell."""


@dataclass(frozen=True)
class Job:
    """One job of the workflow. Two jobs with equal parameters, code and input contents have equal outputs."""

    rule: str
    study: str
    name: str
    """``digits-layerwise-10a593f391/seed1``, or ``digits/main`` for outputs in results/."""
    outputs: tuple[str, ...]
    """The files that the job makes. The last is the provenance record."""
    inputs: dict[str, tuple[str, ...]] = field(hash=False)
    """Role → files. The role ``outside`` holds assets, and files and folders of the user."""
    parameters: dict = field(hash=False)
    entries: frozenset[str] = field(hash=False)
    """Modules whose import closure is the job's code."""
    state: str = ""
    """Folder for checkpoints, if the job has any."""
    context: dict = field(hash=False, default_factory=dict)
    """Explains the names of the inputs to people; not part of the key."""
    devices: int = 1
    """Number of processes that share the work."""
    threads: int = 1
    """Number of threads per process."""
    device: str = "cpu"
    pixels: int = 0
    """Number of values of one image of the study, from which costs are estimated; not part of the key."""

    @property
    def provenance(self) -> str:
        return self.outputs[-1]

    @property
    def stamp(self) -> str:
        """The file that tells Snakemake whether the job's result is fresh; see :mod:`jebm.pipeline.stamps`."""
        return str(STAMPS / self.rule / self.name)

    @cached_property
    def input_files(self) -> tuple[str, ...]:
        """All inputs, without repetitions."""
        return tuple(dict.fromkeys(path for paths in self.inputs.values() for path in paths))


def study_jobs(plan: StudyPlan) -> Iterator[Job]:
    """All jobs of a study, each after the jobs whose outputs it reads."""
    seen = set()
    redrawn = [plan.variants[name].layers for name in _shown(plan, "layers")]
    for kind in KINDS:
        for variant in plan.variants.values():
            for stage in variant.stages(kind):
                if (kind == "train_prior" and not variant.learned) or (
                    kind == "resample_layers" and stage not in redrawn
                ):
                    continue
                if stage.id not in seen:
                    seen.add(stage.id)
                    yield from stage_jobs(plan, variant, stage, plan.seeds if stage.per_seed else [None])
    yield from report_jobs(plan)


def all_jobs(plans: Iterable[StudyPlan]) -> dict[tuple[str, str], Job]:
    """(rule, name) → job for several studies, each after the jobs whose outputs it reads."""
    found: dict[tuple[str, str], Job] = {}
    for plan in plans:
        for job in study_jobs(plan):
            found.setdefault((job.rule, job.name), job)
    return found


def _shown(plan: StudyPlan, source: str) -> list[str]:
    """The variants for which a figure reads a stage in this role."""
    return [v for name, variants in plan.study.figures.items() if source in FIGURES[name][1] for v in variants]


def step_target(rule: str) -> str:
    """The function that does the work of a rule."""
    return REPORTS.get(rule, f"jebm.steps.{rule}:run")


def devices_of(kind: str, variant: Variant) -> int:
    """Number of devices, with one process each, that work on a stage of this kind."""
    by_gradient = kind != "train_prior" or variant.params.prior.traits.by_gradient
    return variant.params.compute.devices if KINDS[kind].devices != "one" and by_gradient else 1


def stage_job(plan: StudyPlan, variant: Variant, stage: Stage, seed: int | None) -> Job:
    """The job that makes one stage of a variant at a seed."""
    return next(stage_jobs(plan, variant, stage, [seed]))


def stage_jobs(plan: StudyPlan, variant: Variant, stage: Stage, seeds: Iterable[int | None]) -> Iterator[Job]:
    """The jobs that make one stage of a variant, one per seed. They differ in their files and in the seed alone."""
    kind, params = KINDS[stage.kind], variant.params
    used = {key: block for name in kind.blocks for key, block in variant.block(name, stage).items()}
    devices = devices_of(stage.kind, variant)
    if "compute" in used:
        counted = 1 if kind.devices == "any" else devices
        used["compute"] = params.compute.model_copy(update={"devices": counted})
    targets = [step_target(stage.kind)]
    if stage.kind == "train_prior" or (stage.kind == "count_operations" and variant.learned):
        targets.append(params.prior.traits.fit)
    if stage.kind == "import_backbone":
        targets.append(IMPORTERS[params.import_backbone.format])
    read = {role: getattr(variant, role) for role in kind.reads}
    if not variant.learned or variant.joint:  # the prior has no weights, or the files of the backbone hold them
        read.pop("prior", None)
    external = outside(plan, used.values())
    parameters = {key: block.model_dump(mode="json") for key, block in used.items()} | {"id": stage.id}
    entries = entry_modules([*targets, *(t for block in used.values() for t in component_targets(block))])
    for seed in seeds:
        files = {role: tuple(source.content_files(seed)) for role, source in read.items() if source is not None}
        yield Job(
            stage.kind,
            plan.name,
            stage.job_name(seed),
            tuple(stage.files(seed)),
            ({"outside": external} if external else {}) | files,
            parameters | {"seed": seed},
            entries,
            str(stage.state_folder(seed)),
            devices=devices,
            threads=params.compute.threads if "compute" in used else 1,
            device=params.compute.device if "compute" in used else "cpu",
            pixels=math.prod(item_shape(params.dataset) or (SMALL_IMAGE,)),
        )


def outside(plan: StudyPlan, sections: Iterable[BaseModel]) -> tuple[str, ...]:
    """The external inputs that blocks of parameters name: assets, and files and folders of the user."""
    sections = list(sections)
    paths = [str(plan.assets[name].path) for section in sections for name in asset_names(section)]
    return tuple(dict.fromkeys([*paths, *(path for section in sections for path in data_paths(section))]))


def report_jobs(plan: StudyPlan) -> Iterator[Job]:
    """The jobs that collect metrics and render tables and figures."""
    context = {
        "seeds": plan.seeds,
        "variants": {name: variant.params.model_dump(mode="json") for name, variant in plan.variants.items()},
    }
    rows = {"study": plan.name, "seeds": plan.seeds, "variants": list(plan.variants)}

    def job(
        rule: str, name: str, inputs: dict[str, list[str]], outputs: list[str], parameters: Any, *targets: str, page=()
    ):
        files = *(str(plan.results / path) for path in outputs), *page, plan.provenance(rule, name)
        # A file that two variants share is listed twice, so that the key tells which variant has which file.
        found = {role: tuple(paths) for role, paths in inputs.items() if paths}
        entries = entry_modules([step_target(rule), *targets])
        return Job(rule, plan.name, f"{plan.name}/{name}", files, found, parameters, entries, context=context)

    collected = {"metrics": [str(plan.results / "metrics.csv")]}
    yield job(
        "collect_metrics",
        "metrics",
        {
            "floor": plan.floor_files(),
            "metrics": [path for _, path in plan.metric_files()],
            "records": [path for *_, path in plan.record_files()],
            "scores": plan.compared_files(),
        },
        ["metrics.csv", "metrics.json", "protocols.json"],
        rows
        | {"headline": {name: spec.model_dump(mode="json") for name, spec in plan.study.headline.items()}}
        | ({"differences": plan.study.differences.model_dump(mode="json")} if plan.study.differences else {})
        | _declared(plan, list(plan.variants)),
    )
    yield job(
        "collect_plots",
        "plots",
        {**collected, "histories": plan.prior_histories()},
        ["plots/langevin-steps.csv", "plots/training.csv", "dvc.yaml"],
        rows | {"headline": bool(plan.study.headline)},
    )
    for name, spec in plan.study.tables.items():
        outputs = [f"tables/{name}.{suffix}" for suffix in ("csv", "md", "tex")]
        paths = [field for field in (*spec.rows, *spec.columns) if field not in FIELDS]
        values = {path: {v: parameter(plan.variants[v].params, path) for v in spec.variants} for path in paths}
        parameters = spec.model_dump(mode="json") | {"seeds": plan.seeds, "values": values}
        parameters |= _declared(plan, spec.variants)
        yield job("render_table", name, collected, outputs, parameters, page=[plan.page(name)])
    for name, variants in plan.study.figures.items():
        outputs = [f"figures/{name}.{suffix}" for suffix in ("png", "pdf")]
        parameters = {"variants": variants, "seeds": plan.seeds} | _declared(plan, variants)
        yield job("render_figure", name, plan.figure_files(name), outputs, parameters, FIGURES[name][0])


def _declared(plan: StudyPlan, variants: list[str]) -> dict[str, Any]:
    """How to print the metrics that evaluations of these variants declare. It is a parameter of the job, because the
    declaration is no part of the code of any job."""
    blocks = [block for name in variants for block in plan.variants[name].params.evaluations.values()]
    found = {metric: list(entry) for block in blocks for metric, entry in block.traits.metrics.items()}
    return {"declared": found} if found else {}


def component_targets(section: BaseModel) -> list[str]:
    """``module:name`` of every component in a block of parameters, including nested blocks."""
    return [block.target for _, block in blocks_in(section) if block.target]


def missing_outside(job: Job) -> list[str]:
    """The external inputs of a job that do not exist."""
    return [path for path in job.inputs.get("outside", ()) if not Path(path).exists()]
