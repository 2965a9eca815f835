"""Every job of a study: what it reads and writes, the parameters that it uses, and the code that it runs.

This is the one description of the graph besides Snakemake's: freshness, ``jebm why``, ``jebm plan`` and ``jebm adopt``
are answered from it, by content.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from jebm.config.assets import asset_names, data_paths
from jebm.config.catalogue import FIGURES, FITS, IMPORTERS, TABLES
from jebm.io.filenames import PROVENANCE
from jebm.pipeline.code_digest import entry_modules
from jebm.pipeline.study import Stage, StudyPlan, Variant

RULES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "dataset": ("prepare_dataset", ("dataset",), ()),
    "features": ("train_features", ("features", "compute"), ("dataset",)),
    "reference": ("reference_statistics", ("features", "compute"), ("dataset", "features")),
    "imported": ("import_backbone", ("backbone", "import_backbone", "compute"), ("dataset",)),
    "backbone": ("train_backbone", ("backbone", "train_backbone", "compute"), ("dataset",)),
    "prior": ("train_prior", ("backbone", "prior", "compute"), ("dataset", "backbone")),
    "joint": ("train_joint", ("backbone", "prior", "train_joint", "compute"), ("dataset", "pretrained")),
    "samples": ("draw_samples", ("backbone", "prior", "draw_samples", "compute"), ("dataset", "backbone", "prior")),
    "layers": ("resample_layers", ("backbone", "compute"), ("dataset", "backbone", "samples")),
    "sample-metrics": (
        "evaluate_samples",
        ("evaluate_samples", "features", "compute"),
        ("dataset", "features", "reference"),
    ),
    "floor": ("evaluate_floor", ("evaluate_samples", "features", "compute"), ("dataset", "features", "reference")),
    "density-metrics": ("evaluate_density", ("backbone", "evaluate_density", "compute"), ("dataset", "backbone")),
    "evaluation": (
        "evaluate",
        ("backbone", "prior", "features", "compute"),
        ("dataset", "backbone", "prior", "features"),
    ),
}
"""Kind of stage → its rule, the blocks of parameters that its command reads, and the stages whose files it reads."""

SHARED_OUT = ("backbone", "prior", "joint", "samples", "reference", "sample-metrics", "floor")
"""Kinds of stage whose work several devices share."""
MEASURED = ("reference", "sample-metrics", "floor")
"""Those of them whose result does not depend on by how many."""


@dataclass(frozen=True)
class Job:
    """One job of the workflow. Two jobs with equal parameters, code and input contents make equal outputs."""

    rule: str
    study: str
    name: str
    """Identity and seed of the stage, or the name of the table or figure."""
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    provenance: str
    """The file that records what the outputs were made from; one of the outputs."""
    parameters: dict = field(hash=False)
    entries: frozenset[str] = field(hash=False)
    """Modules whose import closure is the job's code."""
    state: str = ""
    """Where its unfinished work is kept, if it keeps any."""
    context: dict = field(hash=False, default_factory=dict)
    """What explains the inputs' names to a person; no part of freshness."""


def study_jobs(plan: StudyPlan) -> Iterator[Job]:
    """All jobs of a study, each after the jobs that it reads from."""
    seen = set()
    redrawn = [plan.variants[name].layers for name in _shown(plan, "layers")]
    for kind in RULES:
        for variant in plan.variants.values():
            for stage in variant.stages(kind):
                if (kind == "prior" and not variant.learned) or (kind == "layers" and stage not in redrawn):
                    continue
                for seed in [None] if stage.shared else plan.seeds:
                    job = stage_job(plan, variant, stage, seed)
                    if job.provenance not in seen:
                        seen.add(job.provenance)
                        yield job
    yield from report_jobs(plan)


def all_jobs(plans: Iterable[StudyPlan]) -> Iterator[Job]:
    """The jobs of several studies, shared ones once."""
    seen = set()
    for plan in plans:
        for job in study_jobs(plan):
            if job.provenance not in seen:
                seen.add(job.provenance)
                yield job


def _shown(plan: StudyPlan, kind: str) -> list[str]:
    """The variants for which some figure reads a kind of stage."""
    return [v for name, variants in plan.study.figures.items() if kind in FIGURES[name][1] for v in variants]


def stage_target(kind: str) -> str:
    """The function that makes a kind of stage."""
    return f"jebm.steps.{RULES[kind][0]}:run"


def devices_of(kind: str, variant: Variant) -> int:
    """How many devices, a process each, work on a kind of stage."""
    by_gradient = kind != "prior" or "train_prior" in FITS.get(variant.params.prior.name, ("", ()))[1]
    return variant.params.compute.devices if kind in SHARED_OUT and by_gradient else 1


def stage_job(plan: StudyPlan, variant: Variant, stage: Stage, seed: int | None) -> Job:
    """The job that makes one stage of a variant at a seed."""
    rule, sections, reads = RULES[stage.kind]
    params = variant.params
    targets = [stage_target(stage.kind)]
    used = {key: getattr(params, key) for key in sections}
    if "compute" in used:
        devices = 1 if stage.kind in MEASURED else devices_of(stage.kind, variant)
        used["compute"] = params.compute.model_copy(update={"devices": devices})
    if stage.kind == "prior":
        fit, extra = FITS[params.prior.name]
        targets.append(fit)
        used |= {key: getattr(params, key) for key in extra}
    if stage.kind == "imported":
        targets.append(IMPORTERS[params.import_backbone.format])
    sources = [getattr(variant, of) for of in reads if of != "prior" or (variant.learned and not variant.joint)]
    sources = [source for source in sources if source is not None]
    if stage.kind == "sample-metrics":
        sources += [plan.find("samples", id).samples for id in stage.spec["samples"]]
    if stage.kind == "density-metrics":
        measured = [_with_prior(plan, id) for id in stage.spec["priors"]]
        sources += [other.prior for other in measured if other.learned and not other.joint]
        used |= {f"prior {other.prior.id}": other.params.prior for other in measured}
    if stage.kind == "reference":
        used["reference_statistics"] = params.evaluate_samples.statistics
    if stage.kind == "evaluation":
        used["evaluation"] = _evaluation_block(variant, stage)
    return Job(
        rule,
        plan.name,
        stage.id if stage.shared else f"{stage.id} seed {seed}",
        tuple(stage.files(seed)),
        (*outside(plan, used.values()), *(path for source in sources for path in source.content_files(seed))),
        str(stage.run_folder(seed) / PROVENANCE),
        {key: section.model_dump(mode="json") for key, section in used.items()} | {"seed": seed},
        entry_modules([*targets, *(t for section in used.values() for t in component_targets(section))]),
        str(stage.state_folder(seed)),
    )


def outside(plan: StudyPlan, sections: Iterable[BaseModel]) -> list[str]:
    """The assets, and the files and folders of the user's own, that blocks of parameters name."""
    paths = [str(plan.assets[name].path) for section in sections for name in asset_names(section)]
    return list(dict.fromkeys([*paths, *(path for section in sections for path in data_paths(section))]))


def _with_prior(plan: StudyPlan, id: str) -> Variant:
    """A variant whose prior, of stage 2 or of joint training, has that identity."""
    return next(variant for variant in plan.variants.values() if variant.prior.id == id)


def _evaluation_block(variant: Variant, stage: Stage) -> BaseModel:
    return next(variant.params.evaluations[label] for label, own in variant.evaluations.items() if own == stage)


def report_jobs(plan: StudyPlan) -> Iterator[Job]:
    """Collecting, tables and figures."""
    context = {
        "seeds": plan.seeds,
        "variants": {name: variant.params.model_dump(mode="json") for name, variant in plan.variants.items()},
    }
    collected = [path for _, path in plan.metric_files()]
    records = [path for *_, path in plan.record_files()]
    rows = {"seeds": plan.seeds, "variants": list(plan.variants)}

    def job(rule: str, name: str, inputs: list[str], outputs: list[str], parameters: Any, target: str) -> Job:
        record = plan.provenance(rule, name)
        parts = tuple(str(plan.results / path) for path in outputs)
        entries = entry_modules([target, "jebm.report.render:render"] if rule == "render_figure" else [target])
        paths = tuple(dict.fromkeys(inputs))
        return Job(rule, plan.name, name, (*parts, record), paths, record, parameters, entries, context=context)

    csv, timings = str(plan.results / "metrics.csv"), str(plan.results / "timings.csv")
    yield job(
        "collect_metrics",
        "",
        [*plan.floor_files(), *collected, *records],
        ["metrics.csv", "metrics.json", "protocols.json", "timings.csv"],
        rows,
        "jebm.report.collect:collect",
    )
    yield job(
        "collect_plots",
        "",
        [csv, timings, *plan.prior_histories()],
        ["plots/langevin-steps.csv", "plots/training.csv"],
        rows,
        "jebm.report.plots:collect_plots",
    )
    for name, spec in plan.study.tables.items():
        outputs = [f"tables/{name}.{kind}" for kind in ("csv", "md", "tex")]
        parameters = spec.model_dump(mode="json") | {"seeds": plan.seeds}
        yield job("render_table", name, [csv, timings], outputs, parameters, TABLES[spec.kind])
    for name, variants in plan.study.figures.items():
        outputs = [f"figures/{name}.{kind}" for kind in ("png", "pdf")]
        parameters = {"variants": variants, "seeds": plan.seeds}
        yield job("render_figure", name, plan.figure_files(name), outputs, parameters, FIGURES[name][0])


def component_targets(section: BaseModel) -> list[str]:
    """``module:name`` of every component that a block of parameters names, nested ones too."""
    targets = [section.target] if getattr(section, "target", None) else []
    for key in type(section).model_fields:
        value = getattr(section, key)
        for block in value.values() if isinstance(value, dict) else [value]:
            targets += component_targets(block) if isinstance(block, BaseModel) else []
    return targets
