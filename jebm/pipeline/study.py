"""The plan of a study: the stages of each variant, and the files that collecting, tables and figures read.

The folder of a stage carries a digest of the parameters that the stage and its ancestors use. Variants with equal
parameters share the folder (one backbone serves all its variants). A changed parameter leads to another folder and
leaves the old result alone; changing it back finds the old result again. ``jebm list`` prints the folders of all
stages.
"""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from jebm.config.assets import Asset, asset_names
from jebm.config.catalogue import FIGURES
from jebm.config.components import Section
from jebm.config.read import canonical
from jebm.config.schema import Base, Params, Study
from jebm.io.filenames import ARRAYS, HISTORY, METRICS, RECORD
from jebm.pipeline.stages import RESULTS, RUNS, Stage, slug


@dataclass(frozen=True)
class Variant:
    """One variant of a study: its parameters, and its stages by role."""

    name: str
    params: Base = field(hash=False)
    dataset: Stage
    features: Stage
    backbone: Stage
    """The stage that makes the hierarchy's weights: ``train_backbone``, ``import_backbone`` or ``train_joint``."""
    prior: Stage
    """The stage that makes the prior's weights: ``train_prior`` or ``train_joint`` (which is then also the
    backbone)."""
    samples: Stage
    layers: Stage
    floor: Stage
    sample_metrics: Stage
    density_metrics: Stage | None
    """None for priors whose density can't be evaluated."""
    pretrained: Stage | None = None
    """The stage-1 backbone from which joint training starts, if any."""
    reference: Stage | None = None
    """The statistics of the reference images, for streamed feature spaces."""
    evaluations: dict[str, Stage] = field(hash=False, default_factory=dict)
    """Label of the block in ``evaluations`` → its stage."""

    def all_stages(self) -> list[Stage]:
        """Every stage that the variant may need, without repetitions."""
        roles = (
            self.dataset, self.features, self.reference, self.pretrained, self.backbone, self.prior, self.samples,
            self.layers, self.floor, self.sample_metrics, self.density_metrics, *self.evaluations.values(),
        )  # fmt: skip
        return list(dict.fromkeys(stage for stage in roles if stage is not None))

    def stages(self, kind: str) -> list[Stage]:
        """All stages of a kind."""
        return [stage for stage in self.all_stages() if stage.kind == kind]

    @property
    def learned(self) -> bool:
        """Whether the prior has parameters to learn (the Gaussian prior has none)."""
        return self.params.prior.traits.fit is not None

    @property
    def joint(self) -> bool:
        """Whether hierarchy and prior are trained jointly."""
        return self.backbone.kind == "train_joint"

    def block(self, name: str, stage: Stage) -> dict[str, BaseModel]:
        """The parameters behind one name in :attr:`jebm.pipeline.stages.StageKind.blocks`."""
        if name == "fit":  # the blocks that the training of this prior uses besides its own
            return {"train_prior": self.params.train_prior} if self.params.prior.traits.by_gradient else {}
        if name == "statistics":
            return {name: self.params.evaluate_samples.statistics}
        if name == "evaluation":
            return {name: self.evaluation_block(stage)}
        return {name: getattr(self.params, name)}

    def evaluation_block(self, stage: Stage) -> Section:
        """The block of ``evaluations`` that belongs to a stage."""
        return next(self.params.evaluations[label] for label, own in self.evaluations.items() if own == stage)

    def evaluations_named(self, *names: str) -> list[tuple[Section, Stage]]:
        """The block and the stage of each evaluation whose component has one of these names."""
        blocks = self.params.evaluations
        return [(blocks[label], stage) for label, stage in self.evaluations.items() if blocks[label].name in names]

    def trained(self) -> list[Stage]:
        """The stages that train or import weights of the variant, except its feature space."""
        stages = [self.pretrained, self.backbone, *([self.prior] if self.learned else [])]
        return list(dict.fromkeys(stage for stage in stages if stage is not None))

    def measured(self) -> list[Stage]:
        """The stages whose metrics are the variant's rows in ``metrics.csv``."""
        stages = [self.sample_metrics, self.density_metrics, *self.evaluations.values()]
        return [stage for stage in stages if stage is not None]


class StudyPlan:
    """The variants of one study.

    Args:
        labels: identity → readable part of the folder's name. If several studies share a stage, the first one names it.
    """

    def __init__(self, name: str, study: Study, assets: dict[str, Asset], labels: dict[str, str] | None = None):
        self.name, self.study, self.assets = name, study, assets
        self.seeds = list(study.seeds)
        self._labels = {} if labels is None else labels
        self.variants = {key: self._variant(key, params) for key, params in study.variants.items()}

    def _stage(self, kind: str, spec: dict, parent: Stage | None, *words: str) -> Stage:
        bare = Stage(kind, spec, parent)
        return Stage(kind, spec, parent, self._labels.setdefault(bare.id, slug(*words)))

    def _variant(self, name: str, params: Base) -> Variant:
        parts = {
            key: canonical(getattr(params, key))
            for key in Base.model_fields
            if key not in ("train_joint", "evaluations") and getattr(params, key) is not None
        }
        compute, study = parts["compute"], self.name
        data = {"dataset": parts["dataset"], **self._digests(params.dataset)}
        dataset = self._stage("prepare_dataset", data, None, _dataset_label(params.dataset))
        # The feature space is always trained on one device, so that it does not depend on the number of devices.
        alone = {key: value for key, value in compute.items() if key != "devices"}
        space = {"features": parts["features"], "compute": alone, **self._digests(params.features)}
        features = self._stage("train_features", space, dataset, study, params.features.name)
        kind, block = ("import_backbone",) * 2 if params.import_backbone else ("train_backbone",) * 2
        spec = {"backbone": parts["backbone"], block: parts[block], "compute": compute}
        backbone = self._stage(kind, spec | self._digests(getattr(params, block)), dataset, study, params.backbone.name)
        pretrained, learner = None, _prior_label(params)
        if params.train_joint is None:
            uses = ("prior", "train_prior") if params.prior.traits.by_gradient else ("prior",)
            spec = {key: parts[key] for key in uses}
            prior = self._stage("train_prior", spec, backbone, study, learner)
        else:
            pretrained = backbone if params.train_joint.start == "backbone" else None
            spec = {
                "train_joint": canonical(params.train_joint),
                "backbone": parts["backbone"],
                "prior": parts["prior"],
                "compute": compute,
            }
            words = study, learner, params.train_joint.method
            backbone = prior = self._stage("train_joint", spec, pretrained or dataset, *words)
        words = study, learner, params.draw_samples.sampler.name
        samples = self._stage("draw_samples", {"draw_samples": parts["draw_samples"]}, prior, *words)
        layers = self._stage("resample_layers", {}, samples, *words)
        distances = {"evaluate_samples": parts["evaluate_samples"], "features": features.id}
        reference = None
        if params.features.traits.streamed:
            spec = {"reference_statistics": canonical(params.evaluate_samples.statistics), "features": features.id}
            reference = self._stage("reference_statistics", spec, dataset, study, params.features.name)
        density = None
        if params.prior.traits.evaluable:
            spec = {"evaluate_density": parts.get("evaluate_density", {})}
            density = self._stage("evaluate_density", spec, prior, study, learner)
        return Variant(
            name,
            params,
            dataset,
            features,
            backbone,
            prior,
            samples,
            layers,
            self._stage("evaluate_floor", distances, dataset, study, params.features.name),
            self._stage("evaluate_samples", distances, samples, *words),
            density,
            pretrained,
            reference,
            {label: self._evaluation(block, parts, features, prior) for label, block in params.evaluations.items()},
        )

    def _evaluation(self, block: Section, parts: dict, features: Stage, prior: Stage) -> Stage:
        """The stage of an evaluation. One that names a kind of stage of its own depends on the sampler instead of the
        feature space."""
        kind = getattr(block.traits, "stage", "run_evaluation")
        spec = {"evaluation": canonical(block)}
        spec |= {"features": features.id} if kind == "run_evaluation" else {"draw_samples": parts["draw_samples"]}
        return self._stage(kind, spec, prior, self.name, block.name)

    def _digests(self, block: BaseModel) -> dict:
        """What the assets that a block names contribute to the identity of the stage that reads them."""
        digests = {name: self.assets[name].digest for name in asset_names(block)}
        return {"assets": digests} if digests else {}

    def asset_names(self) -> list[str]:
        """The assets that the study needs."""
        return list(dict.fromkeys(name for v in self.variants.values() for name in asset_names(v.params)))

    @property
    def results(self) -> Path:
        return RESULTS / self.name

    def provenance(self, rule: str, name: str) -> str:
        """The provenance record of a job that writes to results/."""
        return str(RUNS / rule / self.name / f"{name}.json")

    def page(self, table: str) -> str:
        """The page that shows a table in the report."""
        return str(RUNS / "render_table" / self.name / f"{table}.html")

    def metric_files(self) -> list[tuple[str, str]]:
        """(variant, file) of every metric record of the study, in the order of variants and seeds."""
        return [
            (name, str(stage.run_folder(seed) / METRICS))
            for name, variant in self.variants.items()
            for seed in self.seeds
            for stage in variant.measured()
        ]

    def record_files(self) -> list[tuple[str, int, str, str]]:
        """(variant, seed, ``backbone``, ``prior`` or ``joint``, file) of the record of everything that was trained."""
        return [
            (name, seed, stage.kind.split("_")[1], str(stage.run_folder(seed) / RECORD))
            for name, variant in self.variants.items()
            for seed in self.seeds
            for stage in variant.trained()
        ]

    def compared(self) -> dict[str, tuple[Stage, Stage]]:
        """Variant → the stage that stored what is compared, and that of the variant with which it is compared."""
        if (spec := self.study.differences) is None:
            return {}
        stages = {
            name: variant.density_metrics if spec.of_bounds else variant.evaluations.get(spec.evaluation)
            for name, variant in self.variants.items()
        }
        return {name: (stages[name], stages[other]) for name, other in spec.less.items()}

    def compared_files(self) -> list[str]:
        """The stored values behind the differences between variants."""
        stages = dict.fromkeys(stage for pair in self.compared().values() for stage in pair)
        return [str(stage.run_folder(seed) / ARRAYS) for stage in stages for seed in self.seeds]

    def floor_files(self) -> list[str]:
        return list(dict.fromkeys(str(v.floor.folder / METRICS) for v in self.variants.values()))

    def prior_histories(self) -> list[str]:
        """The training histories of all learned priors."""
        learned = [variant for variant in self.variants.values() if variant.learned]
        return sorted({str(variant.prior.run_folder(seed) / HISTORY) for variant in learned for seed in self.seeds})

    def figure_files(self, name: str) -> dict[str, list[str]]:
        """All files that a figure reads: ``metrics``, and ``runs``, the files of stages, variant by variant."""
        files: dict[str, list[str]] = {"metrics": [], "runs": []}
        for source in FIGURES[name][1]:
            if source == "metrics":
                files["metrics"] += [str(self.results / "metrics.csv")]
                continue
            for variant in (self.variants[key] for key in self.study.figures[name]):
                for stage in _read_by_figure(variant, source):
                    for seed in self.seeds:
                        files["runs"] += stage.content_files(seed)
        return files


def _dataset_label(block: Section) -> str:
    """A dataset is labelled by its source, if it has one, since it belongs to no study."""
    return getattr(block, "source", block).name


def _prior_label(params: Base) -> str:
    """Priors with an energy are labelled by the energy."""
    return params.prior.energy.name if hasattr(params.prior, "energy") else params.prior.name


def _read_by_figure(variant: Variant, source: str) -> list[Stage]:
    """The stages that a figure reads from a source: a role, or ``evaluation:<name>`` for all evaluations of that
    name."""
    if source.startswith("evaluation:"):
        return [stage for _, stage in variant.evaluations_named(source.removeprefix("evaluation:"))]
    if source == "prior" and not variant.learned:
        return []
    return [getattr(variant, source)]


def make_plan(params: Params) -> dict[str, StudyPlan]:
    """The plan of every study."""
    labels: dict[str, str] = {}
    return {name: StudyPlan(name, study, params.assets, labels) for name, study in params.studies.items()}
