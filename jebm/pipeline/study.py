"""What a parameter file asks for: the stages of each variant, their identities, and where their files live.

A stage's folder carries a digest of the parameters that it and everything above it use. Variants that share those
parameters share the folder (one backbone serves all its variants), a changed parameter leads to another folder and
leaves the old result alone, and changing back finds it again. ``jebm plan`` prints the map from names to folders.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel

from jebm.config.assets import Asset, asset_names
from jebm.config.catalogue import FIGURES, FITS, SEQUENTIAL_PRIORS, STREAMED_FEATURES
from jebm.config.read import canonical
from jebm.config.schema import Base, Params, Study
from jebm.errors import ParamsError
from jebm.io.digests import digest
from jebm.io.filenames import (
    ARRAYS,
    HISTORY,
    IMAGES,
    MANIFEST,
    METRICS,
    PRIOR_WEIGHTS,
    PROVENANCE,
    RECORD,
    SAMPLES,
    STATISTICS,
    WEIGHTS,
)

PUBLISHED: dict[str, tuple[str, ...]] = {
    "dataset": (IMAGES, MANIFEST),
    "features": (WEIGHTS, HISTORY, RECORD),
    "reference": (STATISTICS,),
    "imported": (WEIGHTS, RECORD),
    "backbone": (WEIGHTS, HISTORY, RECORD),
    "prior": (WEIGHTS, HISTORY, RECORD),
    "joint": (WEIGHTS, PRIOR_WEIGHTS, HISTORY, RECORD),
    "samples": (SAMPLES,),
    "layers": (ARRAYS,),
    "floor": (METRICS,),
    "sample-metrics": (METRICS,),
    "density-metrics": (METRICS, ARRAYS),
    "evaluation": (METRICS, ARRAYS),
}
"""The files that each kind of stage leaves in its folder, besides its provenance record."""
SHARED = ("dataset", "features", "reference", "imported", "floor")
"""Stages that no run's seed enters: all seeds share them."""
DATA, RUNS, RESULTS, STATE = Path("data"), Path("runs"), Path("results"), Path(".jebm/state")


@dataclass(frozen=True)
class Stage:
    """One step of one variant, without the seed: ``kind`` is what it makes, ``spec`` the parameters that it uses.

    Its identity names no study: studies that agree on the parameters share the result.
    """

    kind: str
    spec: dict = field(hash=False)
    parent: "Stage | None" = None

    @cached_property
    def id(self) -> str:
        return digest({"spec": self.spec, "parent": self.parent.id if self.parent else None})

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.id}"

    @property
    def folder(self) -> Path:
        if self.kind == "dataset":
            block = self.spec["dataset"]
            return DATA / f"{block.get('source', block)['name']}-{self.id}"
        return RUNS / self.name

    def run_folder(self, seed: int | str | None) -> Path:
        """Where the files of one seed live; ``seed`` may be a Snakemake wildcard."""
        return self.folder if self.shared else self.folder / f"seed{seed}"

    @property
    def shared(self) -> bool:
        """Whether one result serves all seeds."""
        return self.kind in SHARED

    def content_files(self, seed: int | str | None = None) -> list[str]:
        """The paths of what later stages read of this one at a seed."""
        return [str(self.run_folder(seed) / name) for name in PUBLISHED[self.kind] if name != RECORD]

    def files(self, seed: int | str | None = None) -> list[str]:
        """The paths of all that the stage leaves at a seed."""
        return [str(self.run_folder(seed) / name) for name in (*PUBLISHED[self.kind], PROVENANCE)]

    def state_folder(self, seed: int | None) -> Path:
        """Where an unfinished run keeps its training state: outside everything that Snakemake or DVC declares."""
        return STATE / self.name / ("shared" if seed is None else f"seed{seed}")


@dataclass(frozen=True)
class Variant:
    """One row of an ablation: its parameters, and the stages that make its numbers."""

    name: str
    params: Base = field(hash=False)
    dataset: Stage
    features: Stage
    backbone: Stage
    """Where the weights of the hierarchy come from: stage 1, a file from elsewhere (``imported``), or joint
    training."""
    prior: Stage
    """Where the weights of the prior come from: stage 2, or joint training (then the same stage as the backbone)."""
    samples: Stage
    layers: Stage
    floor: Stage
    pretrained: Stage | None = None
    """The stage-1 backbone that joint training starts from, if it starts from one."""
    reference: Stage | None = None
    """The statistics of the images that samples are compared with, for feature spaces that are streamed."""
    sample_metrics: Stage | None = None
    density_metrics: Stage | None = None
    evaluations: dict[str, Stage] = field(hash=False, default_factory=dict)
    """By the label of the block in ``evaluations``."""

    def stages(self, kind: str) -> list[Stage]:
        """All stages of a kind."""
        one = (
            self.dataset, self.features, self.reference, self.pretrained, self.backbone, self.prior, self.samples,
            self.layers, self.floor, self.sample_metrics, self.density_metrics,
        )  # fmt: skip
        found = [stage for stage in (*one, *self.evaluations.values()) if stage is not None and stage.kind == kind]
        return list(dict.fromkeys(found))

    def stage(self, kind: str) -> Stage:
        """What figures and rules mean by a kind: the prior of a jointly trained variant is its ``joint`` stage."""
        return self.stages(kind)[0] if kind == "joint" else getattr(self, kind.replace("-", "_"))

    @property
    def learned(self) -> bool:
        """Whether the prior has something to learn (the Gaussian one has not)."""
        return self.params.prior.name in FITS

    @property
    def joint(self) -> bool:
        """Whether hierarchy and prior are trained at once."""
        return self.backbone.kind == "joint"


class StudyPlan:
    """The variants of one study, and look-ups from stage identities back to them."""

    def __init__(self, name: str, study: Study, assets: dict[str, Asset] | None = None):
        self.name, self.study, self.assets = name, study, assets or {}
        self.seeds = list(study.seeds)
        self.variants = {key: self._variant(key, params) for key, params in study.variants.items()}
        self.variants = {key: self._with_evaluation(variant) for key, variant in self.variants.items()}

    def _variant(self, name: str, params: Base) -> Variant:
        parts = {
            key: canonical(getattr(params, key))
            for key in Base.model_fields
            if key not in ("train_joint", "evaluations") and getattr(params, key) is not None
        }
        compute = parts["compute"]
        dataset = Stage("dataset", {"dataset": parts["dataset"], **self._read_from(params.dataset)})
        # One device trains them, however many the rest has: one feature space measures all.
        alone = {key: value for key, value in compute.items() if key != "devices"}
        features = {"features": parts["features"], "compute": alone, **self._read_from(params.features)}
        features = Stage("features", features, dataset)
        kind, block = ("imported", "import_backbone") if params.import_backbone else ("backbone", "train_backbone")
        backbone = {"backbone": parts["backbone"], block: parts[block], "compute": compute}
        backbone = Stage(kind, backbone | self._read_from(getattr(params, block)), dataset)
        pretrained = None
        if params.train_joint is None:
            _, uses = FITS.get(params.prior.name, ("", ()))
            prior = Stage("prior", {"prior": parts["prior"], **{key: parts[key] for key in uses}}, backbone)
        else:
            pretrained = backbone if params.train_joint.start == "backbone" else None
            spec = {
                "train_joint": canonical(params.train_joint),
                "backbone": parts["backbone"],
                "prior": parts["prior"],
            }
            backbone = prior = Stage("joint", {**spec, "compute": compute}, pretrained or dataset)
        samples = Stage("samples", {"draw_samples": parts["draw_samples"]}, prior)
        floor = Stage("floor", {"evaluate_samples": parts["evaluate_samples"], "features": features.id}, dataset)
        reference = None
        if params.features.name in STREAMED_FEATURES:
            spec = {"reference_statistics": canonical(params.evaluate_samples.statistics), "features": features.id}
            reference = Stage("reference", spec, dataset)
        layers = Stage("layers", {}, samples)
        evaluations = {
            label: Stage("evaluation", {"evaluation": canonical(block), "features": features.id}, prior)
            for label, block in params.evaluations.items()
        }
        return Variant(
            name,
            params,
            dataset,
            features,
            backbone,
            prior,
            samples,
            layers,
            floor,
            pretrained,
            reference,
            evaluations=evaluations,
        )

    def _read_from(self, block: BaseModel) -> dict:
        """What the assets that a block names add to the identity of the stage that reads them."""
        digests = {name: self.assets[name].digest for name in asset_names(block)}
        return {"assets": digests} if digests else {}

    def asset_names(self) -> list[str]:
        """The assets that the study needs."""
        return list(dict.fromkeys(name for v in self.variants.values() for name in asset_names(v.params)))

    def _with_evaluation(self, variant: Variant) -> Variant:
        """One evaluation a seed serves all variants that are measured alike: a process costs more than a distance."""
        alike = [other for other in self.variants.values() if other.floor.id == variant.floor.id]
        samples = {**variant.floor.spec, "samples": sorted({other.samples.id for other in alike})}
        settings = variant.params.evaluate_density
        same = [v for v in self.variants.values() if v.backbone.id == variant.backbone.id]
        same = [v for v in same if v.params.prior.name not in SEQUENTIAL_PRIORS]  # they have no density to evaluate
        priors = {other.prior.id for other in same if other.params.evaluate_density == settings}
        density = {"evaluate_density": canonical(settings), "priors": sorted(priors)}
        return replace(
            variant,
            sample_metrics=Stage("sample-metrics", samples, variant.dataset),
            density_metrics=Stage("density-metrics", density, variant.backbone),
        )

    def owner(self, kind: str, id: str) -> tuple[Variant, Stage] | None:
        """Any variant with the stage of that kind and identity, and the stage; all agree on it and what is above it."""
        for variant in self.variants.values():
            for stage in variant.stages(kind):
                if stage.id == id:
                    return variant, stage
        return None

    def find(self, kind: str, id: str) -> Variant:
        """See :meth:`owner`.

        Raises:
            ParamsError: no variant has it, usually because params.yaml was edited after Snakemake started.
        """
        if found := self.owner(kind, id):
            return found[0]
        raise ParamsError(
            f"params.yaml: no variant of '{self.name}' has the {kind} {id}; "
            "was params.yaml edited while Snakemake was running? Start it again"
        )

    def ids(self, kind: str) -> list[str]:
        return list(dict.fromkeys(stage.id for variant in self.variants.values() for stage in variant.stages(kind)))

    @property
    def results(self) -> Path:
        return RESULTS / self.name

    def provenance(self, rule: str, name: str = "") -> str:
        """Where a job that writes to results/ leaves its provenance record."""
        return str(RUNS / "report" / self.name / f"{rule}{'-' if name else ''}{name}.json")

    def metric_files(self) -> list[tuple[str, str]]:
        """(variant, file) of every metric record of the study, in the order of the variants and the seeds."""
        files = []
        for name, variant in self.variants.items():
            for seed in self.seeds:
                for stage in (variant.sample_metrics, variant.density_metrics, *variant.evaluations.values()):
                    files.append((name, str(stage.run_folder(seed) / METRICS)))
        return files

    def record_files(self) -> list[tuple[str, int, str, str]]:
        """(variant, seed, kind, file) of the record of everything that was trained for a variant."""
        files = []
        for name, variant in self.variants.items():
            stages = [variant.pretrained, variant.backbone, *([variant.prior] if variant.learned else [])]
            trained = list(dict.fromkeys(stage for stage in stages if stage is not None))
            for seed in self.seeds:
                files += [(name, seed, _timed_as(stage), str(stage.run_folder(seed) / RECORD)) for stage in trained]
        return files

    def floor_files(self) -> list[str]:
        return list(dict.fromkeys(str(v.floor.folder / METRICS) for v in self.variants.values()))

    def prior_histories(self) -> list[str]:
        """The training histories of all learned priors."""
        learned = [variant for variant in self.variants.values() if variant.learned]
        return sorted({str(variant.prior.run_folder(seed) / HISTORY) for variant in learned for seed in self.seeds})

    def figure_files(self, name: str) -> list[str]:
        """Everything that a figure reads."""
        files = []
        for kind in FIGURES[name][1]:
            if kind == "metrics":
                files += [str(self.results / "metrics.csv"), str(self.results / "timings.csv")]
                continue
            for variant in (self.variants[key] for key in self.study.figures[name]):
                for stage in _read_by_figure(variant, kind):
                    for seed in self.seeds:
                        files += stage.content_files(seed)
        return list(dict.fromkeys(files))


def _timed_as(stage: Stage) -> str:
    """The kind under which sizes and times of a stage stand in tables: a backbone is one wherever it comes from."""
    return "backbone" if stage.kind == "imported" else stage.kind


def _read_by_figure(variant: Variant, kind: str) -> list[Stage]:
    """The stages that a figure means by ``kind``; ``evaluation:<name>`` are the evaluations of that component."""
    if kind.startswith("evaluation:"):
        blocks = variant.params.evaluations
        return [stage for label, stage in variant.evaluations.items() if blocks[label].name == kind.split(":")[1]]
    if kind == "prior" and not variant.learned:
        return []
    return [variant.stage(kind)]


def make_plan(params: Params) -> dict[str, StudyPlan]:
    """The plan of every study in the file."""
    return {name: StudyPlan(name, study, params.assets) for name, study in params.studies.items()}


def study_of(plans: dict[str, StudyPlan], kind: str, id: str) -> StudyPlan:
    """A plan that has a stage; studies that share a stage agree on how it is made.

    Raises:
        ParamsError: no study has it.
    """
    for plan in plans.values():
        if plan.owner(kind, id):
            return plan
    return next(iter(plans.values())).find(kind, id)  # raises, with what may have happened
