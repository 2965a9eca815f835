"""The types behind ``params.yaml``. Every fact about an experiment is a key here; unknown keys are refused."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from jebm.config.assets import Asset
from jebm.config.catalogue import (
    BATCH_NORM_BACKBONES,
    CHAINLESS_PRIORS,
    EXACT_PRIORS,
    FIGURES,
    FITS,
    JOINT_PRIORS,
    LAYER_ENERGIES,
    SEQUENTIAL_PRIORS,
    STREAMED_FEATURES,
)
from jebm.config.components import Section, schema
from jebm.config.messages import near
from jebm.config.tables import SCORED, Table
from jebm.config.training import ImportBackbone, Recalibration, TrainBackbone, TrainJoint, TrainPrior
from jebm.config.types import Count, Natural, NonNegative, Positive
from jebm.metrics.catalogue import DISTANCES, FLOOR, LAYER_SCORE, STREAMED_DISTANCES


class Runtime(Section):
    """How to run, not what to compute: no result may depend on these, so they are part of no digest."""

    checkpoint_seconds: Positive = 60.0
    """Training state is saved this often."""
    keep_aside_hours: NonNegative = 1.0
    """A finished result that took longer is kept in .jebm/aside before an edit of code or data replaces it."""
    data_on_device: bool | None = None
    """Whether the training images are kept on the device; null: if they fit. On a CPU they stay on disk, mapped."""
    fork_server: bool = True
    """Whether jobs on this machine are forks of one process that has imported the libraries, and so start at once."""


class Compute(Section):
    """Where to compute. Rounding depends on it, so it is part of every trained thing's identity."""

    device: str = "cpu"
    threads: Count = 1
    """Of one process."""
    devices: Count = 1
    """Processes that share the batches of one training run, and the samples to draw and to measure; on ``cuda`` one
    GPU each."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the networks of the backbone while they learn; chains, energies and log densities are in fp32 always."""
    tf32: bool = False
    """Whether a GPU may round the factors of fp32 matrix products and convolutions to 10 bits."""
    channels_last: bool = False
    """Whether convolutions keep the channels of a pixel side by side in memory, which GPUs prefer."""

    @model_validator(mode="after")
    def _devices_exist(self):
        if self.devices > 1 and self.device not in ("cpu", "cuda"):
            raise ValueError(
                f"@devices: is {self.devices}, but '{self.device}' is one device; several need device 'cuda' (one GPU "
                "each) or 'cpu' (one process each)"
            )
        return self


class DrawSamples(Section):
    count: Count
    sampler: schema("sampler")
    batch_size: Count = 2000
    """Images decoded at once."""
    keep_latents: Count | None = None
    """Of how many samples, the first ones, the latents are written beside the images; null: of all."""
    recalibrate: Recalibration | None = None
    """Before sampling, and for it alone, replace the statistics of the generator's batch norm by those of draws of the
    prior."""


class ReferenceStatistics(Section):
    """What the moments of the reference depend on."""

    reference: Literal["train", "validation", "test"]
    batch_size: Count | None
    kept_features: Count


class EvaluateSamples(Section):
    reference: Literal["train", "validation", "test"] = "test"
    """The split that samples are compared with; published FIDs use the training split."""
    kernel_distance_subsets: Count = 100
    kernel_distance_subset_size: Count = 1000
    batch_size: Count | None = None
    """Images at once through the feature space; null: as many as the space is made for."""
    kept_features: Count = 10_000
    """``inception``: of so many images of a set, at most, features are kept for KID, precision and recall."""
    precision_recall_neighbours: Count = 3
    """``inception``: the k of the nearest neighbours that span the manifolds of precision and recall."""
    allow_singular: bool = False
    """``inception``: measure FID even of fewer images than a covariance needs."""

    @property
    def statistics(self) -> ReferenceStatistics:
        return ReferenceStatistics(
            reference=self.reference, batch_size=self.batch_size, kept_features=self.kept_features
        )


class EvaluateDensity(Section):
    reference: Literal["validation", "test"] = "test"
    importance_samples: Count = 100
    """Draws of q(z|x) for each image in the importance-weighted bound."""
    detection_samples: Natural = 20
    """Draws of q(z|x) for each image in the detection scores; 0 leaves detection out."""
    partition_samples: Count = 50_000
    """Draws of the Gaussian prior that estimate log Z."""


def layer_count(backbone: Section) -> int:
    """Latent layers of a ``backbone:`` block: the entries of ``latent_dims``, or the sum over scales of ``groups``."""
    return len(backbone.latent_dims) if hasattr(backbone, "latent_dims") else sum(backbone.groups)


class Base(Section):
    """One experiment: what the base and each variant of a study must be after the overrides."""

    compute: Compute = Compute()
    dataset: schema("dataset")
    features: schema("features") = Field(default={"name": "classifier"}, validate_default=True)
    backbone: schema("backbone")
    train_backbone: TrainBackbone | None = None
    import_backbone: ImportBackbone | None = None
    """Where the backbone's weights come from: one of the two."""
    prior: schema("prior")
    train_prior: TrainPrior
    train_joint: TrainJoint | None = None
    """Instead of ``train_backbone`` and ``train_prior``: both at once."""
    draw_samples: DrawSamples
    evaluate_samples: EvaluateSamples = EvaluateSamples()
    evaluate_density: EvaluateDensity = EvaluateDensity()
    evaluations: dict[str, schema("evaluation")] = {}
    """Further evaluations of the prior, under labels of your own."""

    @model_validator(mode="after")
    def _layers_agree(self):
        if (self.train_backbone is None) == (self.import_backbone is None):
            if self.train_backbone is None:
                raise ValueError("@train_backbone: is required, but missing; or give import_backbone instead")
            raise ValueError("@import_backbone: the weights come from there or from train_backbone; set one to null")
        keys = ("groups", "channels", "resolutions")
        scales = [len(getattr(self.backbone, key, [])) for key in keys]
        if all(hasattr(self.backbone, key) for key in ("groups", "resolutions")) and len(set(scales)) > 1:
            raise ValueError(
                f"@backbone.groups: has {scales[0]} entries, channels {scales[1]} and resolutions {scales[2]}; "
                "give one of each for every scale, the finest first"
            )
        layers = layer_count(self.backbone)
        ramps = {"train_backbone": self.train_backbone.kl_warmup} if self.train_backbone else {}
        if self.train_joint:
            ramps["train_joint"] = self.train_joint.kl_warmup
        for block, entries in ramps.items():
            if len(entries) not in (1, layers):
                raise ValueError(
                    f"@{block}.kl_warmup: has {len(entries)} entries, but the backbone "
                    f"has {layers} layers; give one [start, end] a layer, bottom first, or a single one for all"
                )
            if any(start > end for start, end in entries):
                raise ValueError(f"@{block}.kl_warmup: each entry is [start, end] with start ≤ end")
        if self.train_joint and self.prior.name not in JOINT_PRIORS:
            raise ValueError(
                f"@prior.name: '{self.prior.name}' can't be trained with the backbone, as 'train_joint' asks for, "
                f"only {' and '.join(JOINT_PRIORS)}"
            )
        chosen = getattr(getattr(self.prior, "energy", None), "layers", "all")
        if isinstance(chosen, dict):
            scales = getattr(self.backbone, "groups", [layers])
            if chosen["top_scales"] > len(scales):
                raise ValueError(
                    f"@prior.energy.layers.top_scales: is {chosen['top_scales']}; the backbone's scales: {len(scales)}"
                )
            chosen = list(range(layers - sum(scales[-chosen["top_scales"] :]) + 1, layers + 1))
        if chosen != "all" and (max(chosen) > layers or len(set(chosen)) != len(chosen)):
            raise ValueError(
                f"@prior.energy.layers: is {chosen}; allowed are 'all' or different numbers from 1 (bottom) to {layers}"
            )
        terms = layers if chosen == "all" else len(chosen)
        for key in ("hidden", "depth"):
            numbers = getattr(getattr(self.prior, "energy", None), key, 1)
            if isinstance(numbers, list) and len(numbers) != terms:
                raise ValueError(
                    f"@prior.energy.{key}: has {len(numbers)} entries, but {terms} layers have an energy; "
                    "give one number for all, or one for each of them, bottom first"
                )
        for where, chain in self._chains():
            space = getattr(chain, "space", "whitened")
            if space == "z" and chain.kernel.name == "pcnl":
                raise ValueError(f"@{where}.space: 'z' needs a 'langevin' kernel")
            if space != "whitened" and self.prior.name != "ebm":
                raise ValueError(f"@{where}.space: '{space}' needs the prior 'ebm'")
        for label, block in self.evaluations.items():
            for name, chain in getattr(block, "chains", {}).items() if block.name == "chains" else ():
                key = f"@evaluations.{label}.chains.{name}.space: '{chain.space}'"
                if chain.space == "z" and chain.kernel.name == "pcnl":
                    raise ValueError(f"{key} needs a 'langevin' kernel")
                if chain.space != "whitened" and not hasattr(self.prior, "energy"):
                    raise ValueError(f"{key} needs a prior with an energy")
        return self

    def _chains(self) -> list[tuple[str, Section]]:
        """The chains of training and sampling that are used, by their keys."""
        chains = {
            "draw_samples.sampler": self.draw_samples.sampler if self.draw_samples.sampler.name == "chain" else None
        }
        if self.train_joint:
            chains["train_joint.chain"] = self.train_joint.chain
            chains["train_joint.posterior_chain"] = self.train_joint.posterior_chain
        elif "train_prior" in FITS.get(self.prior.name, ("", ()))[1]:
            chains["train_prior.chain"] = self.train_prior.chain
        return [(key, chain) for key, chain in chains.items() if chain is not None]

    @model_validator(mode="after")
    def _batches_can_be_shared(self):
        devices = self.compute.devices
        for name in ("train_backbone", "train_prior", "train_joint"):
            block = getattr(self, name)
            if block is not None and block.batch_size % devices:
                raise ValueError(
                    f"@compute.devices: is {devices}, but {name}.batch_size is {block.batch_size}; each device gets "
                    "an equal share of every batch"
                )
        if self.draw_samples.count < devices:
            raise ValueError(
                f"@compute.devices: is {devices}, more than draw_samples.count ({self.draw_samples.count})"
            )
        return self

    @model_validator(mode="after")
    def _backbone_has_batch_norm(self):
        if self.backbone.name in BATCH_NORM_BACKBONES:
            return self
        for block in ("train_backbone", "import_backbone", "draw_samples"):
            for key in ("spectral_penalty", "batch_norm_penalty", "initial_penalty", "recalibrate"):
                if getattr(getattr(self, block), key, None):
                    raise ValueError(
                        f"@{block}.{key}: the backbone '{self.backbone.name}' has no batch norm and no normalised "
                        f"convolutions, only {' and '.join(BATCH_NORM_BACKBONES)}"
                    )
        return self

    @model_validator(mode="after")
    def _features_fit(self):
        if self.evaluate_samples.allow_singular and self.features.name not in STREAMED_FEATURES:
            raise ValueError(
                f"@evaluate_samples.allow_singular: has no meaning in the features '{self.features.name}', only in "
                f"{' and '.join(STREAMED_FEATURES)}"
            )
        return self

    @model_validator(mode="after")
    def _prior_fits(self):
        prior, sampler = self.prior.name, self.draw_samples.sampler.name
        only_from = {"ancestral": EXACT_PRIORS, "sequential": SEQUENTIAL_PRIORS}.get(sampler, ())
        only_by = "'sequential'" if prior in SEQUENTIAL_PRIORS else "'chain' or 'resampling'"
        if (only_from and prior not in only_from) or (prior in SEQUENTIAL_PRIORS and sampler != "sequential"):
            others = f", only from {' and '.join(only_from)}" if only_from else ""
            raise ValueError(
                f"@draw_samples.sampler.name: '{sampler}' can't draw from the prior '{prior}'{others}; use {only_by}"
            )
        if prior in SEQUENTIAL_PRIORS and self.prior.energy.name not in LAYER_ENERGIES:
            raise ValueError(
                f"@prior.energy.name: '{self.prior.energy.name}' has no term a layer, which the prior '{prior}' needs; "
                f"allowed: {', '.join(LAYER_ENERGIES)}"
            )
        learned = prior in FITS and "train_prior" in FITS[prior][1] and self.train_joint is None
        if getattr(self.draw_samples.sampler, "step_size", "own") == "adapted":
            chain = self.train_prior.chain if learned else None
            if chain is None or chain.adapt is None:
                raise ValueError("@draw_samples.sampler.step_size: 'adapted' needs train_prior.chain.adapt")
            if chain.kernel.name != self.draw_samples.sampler.kernel.name:
                raise ValueError(
                    f"@draw_samples.sampler.step_size: was adapted for the kernel '{chain.kernel.name}' of "
                    f"train_prior.chain, not for '{self.draw_samples.sampler.kernel.name}'"
                )
        if learned and (prior in CHAINLESS_PRIORS) != (self.train_prior.chain is None):
            needs = "is learned without a chain: set it to null" if self.train_prior.chain else "needs one"
            raise ValueError(f"@train_prior.chain: the prior '{prior}' {needs}")
        if learned and self.train_prior.energy_l2 and prior != "ebm":
            raise ValueError(f"@train_prior.energy_l2: the prior '{prior}' is learned without it; only 'ebm' has it")
        return self


class Study(Section):
    seeds: Annotated[list[Natural], Field(min_length=1)]
    base: Base
    variants: dict[str, Base]
    tables: dict[str, Table]
    figures: dict[Literal[tuple(FIGURES)], Annotated[list[str], Field(min_length=1)]]
    """Figure → the variants that it shows."""

    @model_validator(mode="after")
    def _names_exist(self):
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"@seeds: {self.seeds} names a seed twice")
        if FLOOR in self.variants:
            raise ValueError(f"@variants.{FLOOR}: this name stands for the real images in tables; choose another")
        layers = max(layer_count(variant.backbone) for variant in self.variants.values())
        for name, table in self.tables.items():
            for column in table.columns:
                part = LAYER_SCORE.fullmatch(column.partition(":")[2]) if table.kind in SCORED else None
                if part and int(part["layer"]) + (part["of"] == "llr>") > layers:
                    raise ValueError(f"@tables.{name}.columns: '{column}' needs more than {layers} layers")
        for name, table in self.tables.items():
            for column in table.columns:
                self._is_measured(name, column, table.variants)
        named = {f"tables.{name}.variants": table.variants for name, table in self.tables.items()}
        named |= {f"figures.{name}": variants for name, variants in self.figures.items()}
        for where, variants in named.items():
            for variant in variants:
                if variant not in self.variants:
                    raise ValueError(f"@{where}: '{variant}' is no variant;{near(variant, self.variants)}")
        for name, variants in self.figures.items():
            wanted = {kind.partition(":")[2] for kind in FIGURES[name][1] if kind.startswith("evaluation:")}
            for variant in variants:
                has = {block.name for block in self.variants[variant].evaluations.values()}
                if missing := wanted - has:
                    raise ValueError(f"@figures.{name}: '{variant}' has no evaluation '{missing.pop()}' to show")
            for variant in variants if "density-metrics" in FIGURES[name][1] else []:
                if self.variants[variant].prior.name in SEQUENTIAL_PRIORS:
                    raise ValueError(f"@figures.{name}: '{variant}' has no density that can be evaluated, nor shown")
        return self

    def _is_measured(self, table: str, column: str, variants: list[str]) -> None:
        """Distances of samples have one name in spaces that are streamed, and another in the others."""
        wrong = {True: DISTANCES, False: STREAMED_DISTANCES}
        for variant in variants:
            features = self.variants[variant].features.name if variant in self.variants else ""
            if features and column in wrong[features in STREAMED_FEATURES]:
                raise ValueError(
                    f"@tables.{table}.columns: '{column}' is not measured in the features '{features}' of '{variant}'; "
                    f"these are: {', '.join(wrong[features not in STREAMED_FEATURES])}"
                )


class Params(Section):
    default_studies: list[str]
    """What ``snakemake`` builds when no target is named."""
    core_studies: list[str] = []
    """What the target ``core`` builds."""
    runtime: Runtime = Runtime()
    assets: dict[str, Asset] = {}
    """Files from outside, by the names that parameters use."""
    studies: dict[str, Study]
