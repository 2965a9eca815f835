"""What a parameter file asks for: the stages of each variant, their identities, and where their files live.

A stage's folder carries a digest of the parameters that it and everything above it use. Variants that share those
parameters share the folder (one backbone serves all its variants), a changed parameter leads to another folder and
leaves the old result alone, and changing back finds it again. ``jebm plan`` prints the map from names to folders.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from jebm.config import Base, Params, Study, canonical
from jebm.errors import ParamsError
from jebm.registry import FIGURES, FITS

IMAGES, MANIFEST = "images.safetensors", "manifest.json"
WEIGHTS, HISTORY, RECORD = "weights.safetensors", "history.csv", "record.json"
PROVENANCE = "provenance.json"
SAMPLES, METRICS, ARRAYS = "samples.safetensors", "metrics.json", "arrays.safetensors"
PUBLISHED: dict[str, tuple[str, ...]] = {
    "dataset": (IMAGES, MANIFEST),
    "features": (WEIGHTS, HISTORY, RECORD),
    "backbone": (WEIGHTS, HISTORY, RECORD),
    "prior": (WEIGHTS, HISTORY, RECORD),
    "samples": (SAMPLES,),
    "layers": (ARRAYS,),
    "floor": (METRICS,),
    "sample-metrics": (METRICS,),
    "density-metrics": (METRICS, ARRAYS),
}
"""The files that each kind of stage leaves in its folder, besides its provenance record."""
SHARED = ("dataset", "features", "floor")
"""Stages that no run's seed enters: all seeds share them."""
DATA, RUNS, RESULTS, STATE = Path("data"), Path("runs"), Path("results"), Path(".jebm/state")


def digest(content: object) -> str:
    """Ten hexadecimal digits that identify a JSON value."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Stage:
    """One step of one variant, without the seed: ``kind`` is what it makes, ``spec`` the parameters that it uses."""

    study: str
    kind: str
    spec: dict = field(hash=False)
    parent: "Stage | None" = None

    @cached_property
    def id(self) -> str:
        return digest({"spec": self.spec, "parent": self.parent.id if self.parent else None})

    @property
    def folder(self) -> Path:
        if self.kind == "dataset":
            return DATA / f"{self.spec['dataset']['name']}-{self.id}"
        return RUNS / self.study / f"{self.kind}-{self.id}"

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
        return STATE / self.study / f"{self.kind}-{self.id}" / ("shared" if seed is None else f"seed{seed}")


@dataclass(frozen=True)
class Variant:
    """One row of an ablation: its parameters, and the stages that make its numbers."""

    name: str
    params: Base = field(hash=False)
    dataset: Stage
    features: Stage
    backbone: Stage
    prior: Stage
    samples: Stage
    layers: Stage
    floor: Stage
    sample_metrics: Stage | None = None
    density_metrics: Stage | None = None

    def stage(self, kind: str) -> Stage:
        return getattr(self, kind.replace("-", "_"))

    @property
    def learned(self) -> bool:
        """Whether the prior has something to learn (the Gaussian one has not)."""
        return self.params.prior.name in FITS


class StudyPlan:
    """The variants of one study, and look-ups from stage identities back to them."""

    def __init__(self, name: str, study: Study):
        self.name, self.study = name, study
        self.seeds = list(study.seeds)
        self.variants = {key: self._variant(key, params) for key, params in study.variants.items()}
        self.variants = {key: self._with_evaluation(variant) for key, variant in self.variants.items()}

    def _variant(self, name: str, params: Base) -> Variant:
        parts = {key: canonical(getattr(params, key)) for key in Base.model_fields}
        compute = parts["compute"]

        def stage(kind, parent, **spec):
            return Stage(self.name, kind, spec, parent)

        dataset = stage("dataset", None, dataset=parts["dataset"])
        features = stage("features", dataset, features=parts["features"], compute=compute)
        backbone = stage(
            "backbone", dataset, backbone=parts["backbone"], train_backbone=parts["train_backbone"], compute=compute
        )
        _, uses = FITS.get(params.prior.name, ("", ()))
        prior = stage("prior", backbone, prior=parts["prior"], **{key: parts[key] for key in uses})
        samples = stage("samples", prior, draw_samples=parts["draw_samples"])
        floor = stage("floor", dataset, evaluate_samples=parts["evaluate_samples"], features=features.id)
        return Variant(name, params, dataset, features, backbone, prior, samples, stage("layers", samples), floor)

    def _with_evaluation(self, variant: Variant) -> Variant:
        """One evaluation a seed serves all variants that are measured alike: a process costs more than a distance."""
        alike = [other for other in self.variants.values() if other.floor.id == variant.floor.id]
        samples = {**variant.floor.spec, "samples": sorted({other.samples.id for other in alike})}
        settings = variant.params.evaluate_density
        same = [v for v in self.variants.values() if v.backbone.id == variant.backbone.id]
        priors = {other.prior.id for other in same if other.params.evaluate_density == settings}
        density = {"evaluate_density": canonical(settings), "priors": sorted(priors)}
        return replace(
            variant,
            sample_metrics=Stage(self.name, "sample-metrics", samples, variant.dataset),
            density_metrics=Stage(self.name, "density-metrics", density, variant.backbone),
        )

    def find(self, kind: str, id: str) -> Variant:
        """Any variant whose stage of that kind has that identity; all of them agree on it and on what is above it.

        Raises:
            ParamsError: no variant has it, usually because params.yaml was edited after Snakemake started.
        """
        for variant in self.variants.values():
            if variant.stage(kind).id == id:
                return variant
        raise ParamsError(
            f"params.yaml: no variant of '{self.name}' has the {kind} {id}; "
            "was params.yaml edited while Snakemake was running? Start it again"
        )

    def ids(self, kind: str) -> list[str]:
        return list(dict.fromkeys(variant.stage(kind).id for variant in self.variants.values()))

    @property
    def results(self) -> Path:
        return RESULTS / self.name

    def provenance(self, rule: str, name: str = "") -> str:
        """Where a job that writes to results/ leaves its provenance record."""
        return str(RUNS / self.name / "report" / f"{rule}{'-' if name else ''}{name}.json")

    def metric_files(self) -> list[tuple[str, str]]:
        """(variant, file) of every metric record of the study, in the order of the variants and the seeds."""
        files = []
        for name, variant in self.variants.items():
            for seed in self.seeds:
                for stage in (variant.sample_metrics, variant.density_metrics):
                    files.append((name, str(stage.run_folder(seed) / METRICS)))
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
                files.append(str(self.results / "metrics.csv"))
                continue
            for variant in (self.variants[key] for key in self.study.figures[name]):
                if kind == "prior" and not variant.learned:
                    continue
                for seed in self.seeds:
                    files += variant.stage(kind).content_files(seed)
        return list(dict.fromkeys(files))


def make_plan(params: Params) -> dict[str, StudyPlan]:
    """The plan of every study in the file."""
    return {name: StudyPlan(name, study) for name, study in params.studies.items()}
