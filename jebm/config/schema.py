"""The types behind ``params.yaml``. Every fact about an experiment is a key here; unknown keys are refused."""

from itertools import product
from typing import Annotated, Literal

from pydantic import Field, model_validator

from jebm.config import checks
from jebm.config.assets import Asset
from jebm.config.catalogue import FIGURES
from jebm.config.checks import layer_count
from jebm.config.components import Section, schema
from jebm.config.messages import near
from jebm.config.tables import Headline, Table
from jebm.config.training import ImportBackbone, Recalibration, TrainBackbone, TrainJoint, TrainPrior
from jebm.config.types import Count, Natural, Positive
from jebm.metrics.catalogue import DISTANCES, FLOOR, STREAMED_DISTANCES


class Runtime(Section):
    """How to run, not what to compute: no result may depend on these, so they are part of no digest."""

    checkpoint_seconds: Positive = 60.0
    """Training state is saved this often."""
    data_on_device: bool | None = None
    """Whether the training images are kept on the device; null: if they fit. On a CPU they stay on disk, mapped."""
    fork_server: bool = True
    """Whether jobs on this machine are forks of one process that has imported the libraries, and so start at once."""


class Compute(Section):
    """Where to compute. Rounding depends on it, so it is part of every trained thing's identity."""

    device: str = "cpu"
    """``cpu``, ``cuda``, one GPU of several such as ``cuda:1``, or ``mps``."""
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
    """How many images are drawn from the prior, and how."""

    count: Count
    """Images for each seed."""
    sampler: schema("sampler")
    """What draws the latents; its ``name`` must fit the prior."""
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
    """How samples are compared with real images."""

    reference: Literal["train", "validation", "test"] = "test"
    """The split that samples are compared with; published FIDs use the training split."""
    kernel_distance_subsets: Count = 100
    """Random subsets over which the kernel distance is averaged."""
    kernel_distance_subset_size: Count = 1000
    """Images in each of these subsets."""
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
    """How bounds on log p(x), log Z and outlier detection are estimated."""

    reference: Literal["validation", "test"] = "test"
    """The split whose images are scored."""
    importance_samples: Count = 100
    """Draws of q(z|x) for each image in the importance-weighted bound."""
    detection_samples: Natural = 20
    """Draws of q(z|x) for each image in the detection scores; 0 leaves detection out."""
    partition_samples: Count = 50_000
    """Draws of the Gaussian prior that estimate log Z."""


class Base(Section):
    """One experiment: what the base and each variant of a study must be after the overrides."""

    compute: Compute = Compute()
    """Device, threads and precision."""
    dataset: schema("dataset")
    """The data, their splits and their sets of outliers."""
    features: schema("features") = Field(default={"name": "classifier"}, validate_default=True)
    """The feature space in which samples are compared with real images."""
    backbone: schema("backbone")
    """The hierarchy p(x, z) with its inference network q(z | x)."""
    train_backbone: TrainBackbone | None = None
    """Stage 1: training of the backbone. Either this or ``import_backbone`` is given."""
    import_backbone: ImportBackbone | None = None
    """Weights of a backbone that was trained elsewhere, instead of stage 1."""
    prior: schema("prior")
    """The prior on the latents, with its energies."""
    train_prior: TrainPrior
    """Stage 2: training of the prior on the frozen backbone."""
    train_joint: TrainJoint | None = None
    """Instead of ``train_backbone`` and ``train_prior``: both at once."""
    draw_samples: DrawSamples
    """Images drawn from the prior."""
    evaluate_samples: EvaluateSamples = EvaluateSamples()
    """Distances of the samples to real images."""
    evaluate_density: EvaluateDensity = EvaluateDensity()
    """Bounds on log p(x), the partition function, and outlier detection."""
    evaluations: dict[str, schema("evaluation")] = {}
    """Further evaluations of the prior, under labels of your own."""

    @model_validator(mode="after")
    def _layers_agree(self):
        checks.one_origin_of_weights(self.train_backbone, self.import_backbone)
        checks.scales_agree(self.backbone)
        trained = {"train_backbone": self.train_backbone, "train_joint": self.train_joint}
        checks.ramps_fit(self.backbone, {key: block.kl_warmup for key, block in trained.items() if block})
        checks.energies_fit_layers(self.prior, self.backbone)
        return self

    @model_validator(mode="after")
    def _devices_share(self):
        trained = {key: getattr(self, key) for key in ("train_backbone", "train_prior", "train_joint")}
        sizes = {key: block.batch_size for key, block in trained.items() if block}
        checks.devices_share(self.compute.devices, sizes, self.draw_samples.count)
        return self

    @model_validator(mode="after")
    def _components_fit(self):
        blocks = {key: getattr(self, key) for key in ("train_backbone", "import_backbone", "draw_samples")}
        checks.batch_norm_fits(self.backbone, blocks)
        checks.features_fit(self.features, self.evaluate_samples)
        checks.joint_training_fits(self.prior, self.train_joint)
        checks.sampler_fits(self.prior, self.draw_samples.sampler)
        checks.energy_fits_prior(self.prior)
        checks.chains_fit(self.prior, self._chains())
        checks.evaluated_chains_fit(self.prior, self.evaluations)
        stage_2 = self.train_prior if self.prior.traits.by_gradient and self.train_joint is None else None
        checks.adapted_step_size_fits(self.draw_samples.sampler, stage_2 and stage_2.chain)
        if stage_2:
            checks.training_fits(self.prior, stage_2)
        return self

    def _chains(self) -> list[tuple[str, Section]]:
        """The chains of training and sampling that are used, by their keys."""
        chains = {"draw_samples.sampler": self.draw_samples.sampler}
        if self.train_joint:
            chains["train_joint.chain"] = self.train_joint.chain
            chains["train_joint.posterior_chain"] = self.train_joint.posterior_chain
        elif self.prior.traits.by_gradient:
            chains["train_prior.chain"] = self.train_prior.chain
        return [(key, chain) for key, chain in chains.items() if chain is not None]


class Study(Section):
    """A base and its variants, each of which runs once for every seed, and what is shown of them."""

    seeds: Annotated[list[Natural], Field(min_length=1)]
    """One run of every variant for each of them."""
    base: Base
    variants: dict[str, Base]
    """Name → overrides on the base; ``{}`` is the base itself."""
    headline: dict[str, Headline] = {}
    """The numbers of ``metrics.json``, which ``dvc metrics`` shows: few, and under short names."""
    tables: dict[str, Table]
    """Name → what the table shows; rendered as results/STUDY/tables/NAME.md, .csv and .tex."""
    figures: dict[Literal[tuple(FIGURES)], Annotated[list[str], Field(min_length=1)]]
    """Figure → the variants that it shows; rendered as results/STUDY/figures/NAME.png and .pdf."""

    @model_validator(mode="after")
    def _names_exist(self):
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"@seeds: {self.seeds} names a seed twice")
        if FLOOR in self.variants:
            raise ValueError(f"@variants.{FLOOR}: this name stands for the real images in tables; choose another")
        layers = max(layer_count(variant.backbone) for variant in self.variants.values())
        for name, table in self.tables.items():
            try:
                table.check(self.variants, layers)
            except ValueError as error:
                raise ValueError(f"@tables.{name}.{str(error)[1:]}") from None
            self._are_measured(f"tables.{name}.metrics", table.metrics, table.variants)
        named = {f"headline.{name}.variants": spec.variants for name, spec in self.headline.items()}
        named |= {f"figures.{name}": variants for name, variants in self.figures.items()}
        for where, variants in named.items():
            for variant in variants:
                if variant not in self.variants:
                    raise ValueError(f"@{where}: '{variant}' is no variant;{near(variant, self.variants)}")
        for name, spec in self.headline.items():
            self._are_measured(f"headline.{name}.metric", [spec.metric], spec.variants)
        for name, variants in self.figures.items():
            wanted = {kind.partition(":")[2] for kind in FIGURES[name][1] if kind.startswith("evaluation:")}
            for variant in variants:
                has = {block.name for block in self.variants[variant].evaluations.values()}
                if missing := wanted - has:
                    raise ValueError(f"@figures.{name}: '{variant}' has no evaluation '{missing.pop()}' to show")
            for variant in variants if "density_metrics" in FIGURES[name][1] else []:
                if not self.variants[variant].prior.traits.evaluable:
                    raise ValueError(f"@figures.{name}: '{variant}' has no density that can be evaluated, nor shown")
        return self

    def _are_measured(self, where: str, metrics: list[str], variants: list[str]) -> None:
        """Distances of samples have one name in spaces that are streamed, and another in the others."""
        wrong = {True: DISTANCES, False: STREAMED_DISTANCES}
        for variant, metric in product(variants, metrics):
            features = self.variants[variant].features
            if metric in wrong[features.traits.streamed]:
                raise ValueError(
                    f"@{where}: '{metric}' is not measured in the features '{features.name}' of '{variant}'; "
                    f"these are: {', '.join(wrong[not features.traits.streamed])}"
                )


class Params(Section):
    """Everything that the parameter files say."""

    default_studies: list[str]
    """What ``snakemake`` builds when no target is named."""
    core_studies: list[str] = []
    """What the target ``core`` builds."""
    runtime: Runtime = Runtime()
    """How to run; no result depends on it."""
    assets: dict[str, Asset] = {}
    """Files from outside, by the names that parameters use."""
    studies: dict[str, Study]
