"""The types that check ``params.yaml``. Every property of an experiment is a key here; unknown keys are refused."""

from itertools import product
from typing import Annotated, Literal

from pydantic import Field, model_validator

from jebm.config import checks
from jebm.config.assets import Asset
from jebm.config.catalogue import FIGURES
from jebm.config.checks import layer_count
from jebm.config.components import Section, schema
from jebm.config.messages import suggestion
from jebm.config.tables import Differences, Headline, Table
from jebm.config.training import ImportBackbone, Recalibration, TrainBackbone, TrainJoint, TrainPrior
from jebm.config.types import Count, Device, Natural, Positive
from jebm.metrics.catalogue import DISTANCES, FLOOR, NOISE, STREAMED_DISTANCES


class Runtime(Section):
    """How jobs are run. No result depends on these keys, so they are not part of any identity."""

    checkpoint_seconds: Positive = 60.0
    """Seconds between two checkpoints of the training state."""
    data_on_device: bool | None = None
    """Keep the training images in the memory of the device. ``null`` does so if they fit. On a CPU they stay on disk
    and are memory-mapped."""
    fork_server: bool = True
    """Start jobs on this machine as forks of one process that has imported the libraries, to save that time."""
    jobs_per_gpu: Count = 1
    """Number of jobs on this machine that may share a GPU. The limit ``gpu`` of the run must allow as many."""
    longest_job: Annotated[Count, Field(ge=10)] = 1440
    """Longest time that a job asks a cluster's scheduler for, minutes. Further jobs continue a longer training."""
    gpu_request: Literal["gpus", "gres", "gpus-per-node"] = "gpus"
    """How jobs ask Slurm for GPUs: by ``--gpus``, ``--gres`` or ``--gpus-per-node``, as the cluster accepts."""


class Compute(Section):
    """Where and how precisely to compute. Rounding depends on these keys, so they are part of the identity of
    everything that is trained."""

    device: Device = "cpu"
    """``cpu``, ``cuda``, one of several GPUs such as ``cuda:1``, or ``mps``."""
    threads: Count = 1
    """Number of CPU threads per process."""
    devices: Count = 1
    """Number of processes that share the batches of a training run, and the samples that are drawn and evaluated; on
    ``cuda`` each process uses one GPU."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Floating-point precision of the backbone's networks during training. Chains, energies and log densities are
    always computed in fp32."""
    tf32: bool = False
    """Allow a GPU to round the factors of fp32 matrix products and convolutions to 10 bits (TensorFloat-32), which is
    faster."""
    channels_last: bool = False
    """Store feature maps with the channels last in memory, which makes convolutions faster on GPUs."""

    @model_validator(mode="after")
    def _devices_exist(self):
        if self.devices > 1 and self.device not in ("cpu", "cuda"):
            raise ValueError(
                f"@devices: is {self.devices}, but '{self.device}' is one device; several need device 'cuda' (one GPU "
                "each) or 'cpu' (one process each)"
            )
        return self


class DrawSamples(Section):
    """Images that are drawn from the prior."""

    count: Count
    """Number of images per sample set."""
    sets: Count = 1
    """Number of sample sets per seed, drawn independently. Each distance is the mean over the sets; their standard
    deviation is recorded as its noise (``fd_noise`` …) and printed in the tables."""
    sampler: schema("sampler")
    """The sampler of the latents; it must fit the prior."""
    batch_size: Count = 2000
    """Number of images that are decoded at once."""
    saved_latents: Count | None = None
    """Number of samples whose latents are saved beside the images, the first ones of the first set; ``null`` saves the
    whole set."""
    recalibrate: Recalibration | None = None
    """Before sampling, recompute the batch-norm statistics of the decoder from draws of the Gaussian prior. No other
    stage uses them."""


class ReferenceStatistics(Section):
    """The parameters on which the statistics of the reference images depend."""

    reference: Literal["train", "validation", "test"]
    batch_size: Count | None
    max_stored_features: Count


class EvaluateSamples(Section):
    """How samples are compared with real images."""

    reference: Literal["train", "validation", "test"] = "test"
    """Split of the data that samples are compared with. FIDs in publications usually use the training split."""
    kernel_distance_subsets: Count = 100
    """Number of random subsets over which the kernel distance is averaged."""
    kernel_distance_subset_size: Count = 1000
    """Number of images per subset."""
    batch_size: Count | None = None
    """Number of images per batch of feature extraction; ``null`` uses the default of the feature space."""
    max_stored_features: Count = 10_000
    """``inception`` only: largest number of images per set whose features are used for KID, precision and recall."""
    precision_recall_neighbours: Count = 3
    """Number k of nearest neighbours in precision and recall (Kynkäänniemi et al., 2019)."""
    manifold_images: Natural = 0
    """``classifier`` and ``identity`` only: images of each set in precision and recall; 0 measures neither."""
    allow_singular: bool = False
    """``inception`` only: compute FID even if there are too few images for a covariance matrix of full rank."""

    @property
    def statistics(self) -> ReferenceStatistics:
        return ReferenceStatistics(
            reference=self.reference, batch_size=self.batch_size, max_stored_features=self.max_stored_features
        )


class Annealing(Section):
    """Annealed importance sampling of log Z (Neal, 2001) along exp(β f) p_0, from the base p_0 of the prior, which is
    N(0, I) or the density that its energy tilts: forward, whose expectation is below log Z, and in reverse from draws
    of the density, whose expectation is above it (Grosse et al., 2016)."""

    temperatures: Count = 150
    """Number of steps of each annealing run."""
    chains: Count = 500
    """Number of annealing runs in each direction."""
    start_steps: Natural = 50
    """Number of transitions on the density itself between resampling and the start of the reverse runs. They leave it
    invariant and separate copies of draws that were chosen several times."""
    step_size: Annotated[Positive, Field(lt=1)] = 0.35
    """Step size of the adjusted Crank–Nicolson kernel, a standard deviation. A base that is narrower than N(0, I), such
    as a mixture in many dimensions, needs a smaller one; see `annealing_acceptance`."""


class EvaluateDensity(Section):
    """How the bounds on log p(x), log Z and outlier detection are estimated."""

    reference: Literal["validation", "test"] = "test"
    """Split of the data on which they are measured."""
    importance_samples: Count = 100
    """Number of draws from q(z|x) per image in the importance-weighted bound."""
    detection_samples: Natural = 20
    """Number of draws from q(z|x) per image in the outlier scores; 0 skips outlier detection."""
    partition_samples: Count = 50_000
    """Number of draws of the prior's defensive proposal in the importance-sampling estimate of log Z, and of draws from
    N(0, I) in a second one."""
    annealing: Annealing | None = Annealing()
    """Estimates of log Z by annealed importance sampling from both sides, with which the importance-sampling estimate
    must agree; without agreement no bound is reported. ``null`` skips them, and the estimate from N(0, I) must agree
    instead."""


class Base(Section):
    """One experiment. The base of a study and each variant, after its overrides, must be complete."""

    compute: Compute = Compute()
    """Device, threads and precision."""
    dataset: schema("dataset")
    """The data, with their splits and out-of-distribution sets."""
    features: schema("features") = Field(default={"name": "classifier"}, validate_default=True)
    """The feature space in which samples are compared with real images."""
    backbone: schema("backbone")
    """The hierarchical model p(x, z) and its inference network q(z | x)."""
    train_backbone: TrainBackbone | None = None
    """Stage 1: training of the backbone. Give either this or ``import_backbone``."""
    import_backbone: ImportBackbone | None = None
    """Weights of a backbone that was trained elsewhere, instead of stage 1."""
    prior: schema("prior")
    """The prior over the latents, with its energies."""
    train_prior: TrainPrior
    """Stage 2: training of the prior on the frozen backbone."""
    train_joint: TrainJoint | None = None
    """Train backbone and prior jointly, instead of ``train_backbone`` and ``train_prior``."""
    draw_samples: DrawSamples
    """Samples that are drawn from the prior."""
    evaluate_samples: EvaluateSamples = EvaluateSamples()
    """Distances between the samples and real images."""
    evaluate_density: EvaluateDensity = EvaluateDensity()
    """Bounds on log p(x), the partition function, and outlier detection."""
    evaluations: dict[str, schema("evaluation")] = {}
    """Further evaluations of the prior, under labels of your choice."""

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
        checks.adapted_step_size_fits(self.draw_samples.sampler, stage_2 and stage_2.estimator)
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
            chains["train_prior.estimator"] = self.train_prior.estimator
        return [(key, chain) for key, chain in chains.items() if chain is not None]


class Study(Section):
    """A base and its variants, the seeds at which each variant is run, and what is reported."""

    seeds: Annotated[list[Natural], Field(min_length=1)]
    """Random seeds; every variant is run once for each."""
    base: Base
    variants: dict[str, Base]
    """Name → overrides on the base; ``{}`` is the base itself."""
    headline: dict[str, Headline] = {}
    """The numbers of ``metrics.json``, which ``dvc metrics show`` prints, by short names."""
    differences: Differences | None = None
    """Differences in bounds or outlier detection between variants, with intervals paired over images."""
    tables: dict[str, Table]
    """Name → definition of a table, which is written to results/STUDY/tables/NAME.md, .csv and .tex."""
    figures: dict[Literal[tuple(FIGURES)], Annotated[list[str], Field(min_length=1)]]
    """Figure → the variants that it shows; written to results/STUDY/figures/NAME.png and .pdf."""

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
                    raise ValueError(f"@{where}: '{variant}' is no variant;{suggestion(variant, self.variants)}")
        for name, spec in self.headline.items():
            self._are_measured(f"headline.{name}.metric", [spec.metric], spec.variants)
        for name, variants in self.figures.items():
            checks.figure_can_be_drawn(name, FIGURES[name][1], {key: self.variants[key] for key in variants})
        if self.differences:
            self.differences.check(self.variants)
        return self

    def _are_measured(self, where: str, metrics: list[str], variants: list[str]) -> None:
        """Distances of samples have one name in spaces that are streamed, and another in the others."""
        wrong = {True: DISTANCES, False: STREAMED_DISTANCES}
        for variant, metric in product(variants, metrics):
            features, asked = self.variants[variant].features, self.variants[variant].evaluate_samples.manifold_images
            manifolds = ("precision", "recall") if asked else ()
            if metric.removesuffix(NOISE) in set(wrong[features.traits.streamed]).difference(manifolds):
                raise ValueError(
                    f"@{where}: '{metric}' is not measured in the features '{features.name}' of '{variant}'; "
                    f"these are: {', '.join(wrong[not features.traits.streamed])}"
                )


class Params(Section):
    """The content of the parameter files."""

    default_studies: list[str]
    """The studies that ``snakemake`` runs when no target is named."""
    core_studies: list[str] = []
    """The studies of the target ``core``."""
    runtime: Runtime = Runtime()
    """How jobs are run; no result depends on it."""
    assets: dict[str, Asset] = {}
    """External files, by the names that parameters use."""
    studies: dict[str, Study]
