"""The types behind ``params.yaml``. Every fact about an experiment is a key here; unknown keys are refused.

A study is a base and a list of variants. A variant is a block of overrides on the base: mappings are merged key by
key, everything else is replaced, and so is a component whose ``name`` the override changes, since another component
has other parameters. A study may extend another one: it starts from that one's seeds and base in the same way.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from jebm.assets import Asset, asset_names
from jebm.errors import ParamsError
from jebm.explain import explain, near
from jebm.metric_names import DETECTION, DISTANCES, FLOOR, LAYER_SCORE, METRICS, SCORES, STREAMED_DISTANCES
from jebm.registry import (
    BATCH_NORM_BACKBONES,
    CHAINLESS_PRIORS,
    EXACT_PRIORS,
    FIGURES,
    FITS,
    IMPORTERS,
    JOINT_PRIORS,
    LAYER_ENERGIES,
    SEQUENTIAL_PRIORS,
    STREAMED_FEATURES,
    TABLES,
    Section,
    schema,
)
from jebm.types import (
    AssetName,
    Betas,
    ChainStart,
    Count,
    DataPath,
    Fraction,
    Gradients,
    KlBalance,
    LatentSpace,
    Natural,
    NonNegative,
    Number,
    Positive,
)

PARAMS = Path("params.yaml")


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


class Optimisation(Section):
    """The optimiser and the loop around it, common to all that is trained by gradient."""

    steps: Count
    batch_size: Count
    learning_rate: Positive
    optimizer: Literal["adamw", "adam", "adamax"] = "adamw"
    """Weight decay is decoupled in ``adamw``, an L2 term of the gradient in ``adam`` and ``adamax``."""
    betas: Betas = [0.9, 0.999]
    """Decay per step of the averages of the gradient and of its square (``adamax``: of its size)."""
    epsilon: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    warmup_steps: Natural = 0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    final_learning_rate: Fraction = 0.0
    """Where the schedule ends, as a fraction of learning_rate."""
    clip_gradient_norm: NonNegative = 0.0
    """0 clips nothing."""
    ema: Annotated[NonNegative, Field(lt=1)] = 0.0
    """Decay per step of the exponential moving average that is published; 0 publishes the last weights."""
    log_every: Count = 50
    snapshots: Natural = 0
    """How many models of the end of training are published besides the last one, for evaluations that are means over
    models: those of the last step, of ``snapshot_every`` steps before, and so on."""
    snapshot_every: Natural = 0

    @model_validator(mode="after")
    def _snapshots_fit(self):
        if bool(self.snapshots) != bool(self.snapshot_every):
            raise ValueError("@snapshots: and snapshot_every come together: how many, and how many steps apart")
        if self.snapshots and (self.snapshots - 1) * self.snapshot_every >= self.steps:
            raise ValueError(
                f"@snapshots: {self.snapshots} models, {self.snapshot_every} steps apart, need more than the "
                f"{self.steps} steps of training"
            )
        return self

    accumulate: Count = 1
    """Parts into which a batch is cut, one after the other in memory; their mean gradient is the batch's. The noise of
    each part is drawn in turn, so a run is not that without it to the digit."""
    fused: bool = False
    """Whether the optimiser is one kernel for all parameters; the same up to rounding. Not for ``adamax``."""
    check_every: Count = 1
    """Steps after which it is looked whether everything is finite. More than 1 spares a GPU a wait at every step; what
    comes after a step that was not finite is masked on the device, so nothing is updated then either. Needs fused."""
    skip_non_finite: Natural = 0
    """How many steps in a row may be skipped because a loss, a gradient or a value of the history is not finite. A
    skipped step counts as one of ``steps``. 0 stops at the first one."""
    skip_gradient_norm: NonNegative = 0.0
    """A step whose gradient norm, before clipping, exceeds this is skipped too; 0 sets no limit."""
    skip_share: Fraction = 0.1
    """Training stops when more than this share of the last 100 steps were skipped."""

    @model_validator(mode="after")
    def _late_looks_need_a_mask(self):
        if self.check_every > 1 and not self.fused:
            raise ValueError("@check_every: more than 1 needs fused: true, whose steps can be masked on the device")
        if self.check_every > 1 and self.skip_non_finite:
            raise ValueError("@check_every: more than 1 is too late to skip a step; set it or skip_non_finite back")
        if self.fused and self.optimizer == "adamax":
            raise ValueError("@fused: there is no fused adamax, only adamw and adam")
        if self.skip_gradient_norm and not self.skip_non_finite:
            raise ValueError("@skip_gradient_norm: needs skip_non_finite, the steps in a row that may be skipped")
        return self


class Recalibration(Section):
    """Batch-norm statistics of the decoder, drawn anew from the Gaussian prior before anything is sampled."""

    passes: Count = 500
    batch_size: Count = 16
    temperature: Positive = 1.0
    """Factor on ε of all layers; 1 is the prior itself."""


class TrainBackbone(Optimisation):
    kl_warmup: Annotated[list[Annotated[list[Fraction], Field(min_length=2, max_length=2)]], Field(min_length=1)]
    """For each layer, bottom first: [start, end] of the ramp of its KL weight from 0 to 1, as fractions of steps. One
    entry serves all layers."""
    horizontal_flips: bool = False
    """Mirror each training image from left to right with probability 1/2, anew every time."""
    kl_floor: Fraction = 0.0
    """The least KL weight during the warm-up."""
    kl_balance: KlBalance = False
    """During the warm-up, weigh each layer's KL by how busy the layer is: for its dimensions (``true``), or for the
    size of its maps and the number of layers that share their scale (``scale``: NVAE's)."""
    spectral_penalty: NonNegative = 0.0
    """Weight of the sum over convolutions of their largest singular values."""
    batch_norm_penalty: NonNegative = 0.0
    """Weight of the sum over batch-norm layers of their largest gains."""
    initial_penalty: NonNegative = 0.0
    """What those of the two weights that are not 0 start from: they go geometrically from there to their own values as
    the KL's weight goes from 0 to 1. 0 keeps them constant."""
    recalibrate: Recalibration | None = None
    """After training, replace the statistics of the generator's batch norm by those of draws of the prior; what is
    published, posterior included, has them then. ``draw_samples.recalibrate`` does so for samples alone."""


class StepAdaptation(Section):
    """During the first steps of training the chain's step size moves towards an acceptance, and is then fixed."""

    target_acceptance: Annotated[Fraction, Field(gt=0, lt=1)] = 0.6
    steps: Count
    """Steps of training."""


class ImportBackbone(Section):
    """Weights of a backbone that was trained elsewhere, instead of ``train_backbone``."""

    format: Literal[tuple(IMPORTERS)]
    checkpoint: DataPath | None = None
    """The file, relative to this one."""
    asset: AssetName | None = None
    """The same as one of ``assets``."""
    recalibrate: Recalibration | None = None
    """null leaves the statistics as they are in the file."""

    @model_validator(mode="after")
    def _one_file(self):
        if (self.checkpoint is None) == (self.asset is None):
            raise ValueError("@checkpoint: name the file either by its path here or by its name in assets as 'asset'")
        return self


class TrainingChain(Section):
    kernel: schema("kernel")
    steps: Count
    space: LatentSpace = "whitened"
    """Where the chain runs: on ε, or on z = T(ε), all layers at once (the paper's joint training). In ``z`` unadjusted
    Langevin of step s is stable only while every σ_i > s/2: choose the backbone's floor of σ accordingly."""
    start: ChainStart = "normal"
    """N(0, I) in that space, every layer on its own, or draws of the Gaussian hierarchy."""
    gradients: Gradients = "autograd"
    """By autograd, or in closed form where the networks are known to have one, which is faster."""
    adapt: StepAdaptation | None = None
    """Start from the kernel's step size and adapt it. The size that comes out stands in the record, and samplers
    with ``step_size: adapted`` use it."""

    @model_validator(mode="after")
    def _adapts_by_acceptance(self):
        if self.adapt and not self.kernel.adjusted:
            raise ValueError("@adapt: needs a kernel with adjusted: true; without the test all proposals are accepted")
        return self


class TrainPrior(Optimisation):
    chain: TrainingChain | None
    """The chain that draws the negatives, started from the Gaussian prior at every iteration; null for priors that
    are learned without (``ncp``)."""
    may_diverge: bool = False
    """Publish the last finite weights and the step of the divergence instead of failing: for a variant that is there
    to show divergence."""
    energy_l2: NonNegative = 0.0
    """Weight of E[f(z⁺)²] + E[f(z⁻)²] in the loss, which keeps the energies small (Du and Mordatch, 2019)."""
    largest_gap: Positive = 1.0e4
    """Energy gap, nats, in size, beyond which training has diverged: it is near 1 in a healthy run, and where the
    chains have lost the density it grows by orders of magnitude within a few steps, long before anything overflows."""

    @model_validator(mode="after")
    def _adapts_within_training(self):
        if self.chain and self.chain.adapt and self.chain.adapt.steps > self.steps:
            raise ValueError(f"@chain.adapt.steps: is {self.chain.adapt.steps}, training has {self.steps} steps")
        return self


class TrainJoint(Optimisation):
    """Hierarchy, inference network and energies trained at once; the optimiser above is that of the hierarchy."""

    method: Literal["mcmc", "variational"]
    """Where the positives come from: Langevin on the posterior, or the inference network, trained along."""
    start: Literal["backbone", "scratch"] = "scratch"
    """Weights to begin with: those of stage 1 (``backbone`` and ``train_backbone``), or random ones."""
    kl_warmup: Annotated[list[Annotated[list[Fraction], Field(min_length=2, max_length=2)]], Field(min_length=1)] = [
        [0.0, 0.0]
    ]
    """As in ``train_backbone``; f is weighed by the smallest of the layers' weights, and learned by it too."""
    energy_learning_rate: Positive
    energy_weight_decay: NonNegative = 0.0
    chain: TrainingChain
    """The chain that draws the negatives from the prior."""
    posterior_chain: TrainingChain | None = None
    """The chain that draws the positives, for ``mcmc``."""
    horizontal_flips: bool = False
    """As in ``train_backbone``."""
    posterior_start: Literal["prior", "network"] = "prior"
    """Where that chain starts: as its ``start`` says, or at a draw of the inference network."""
    inference_every: Count = 1
    """For ``mcmc``: the inference network, which then drives nothing else, is trained at every so many steps alone."""
    energy_l2: NonNegative = 0.0
    """As in ``train_prior``; it acts on the energies alone."""
    largest_gap: Positive = 1.0e4
    """As in ``train_prior``."""
    may_diverge: bool = False
    """As in ``train_prior``."""

    @model_validator(mode="after")
    def _chain_fits_the_method(self):
        if (self.method == "mcmc") != (self.posterior_chain is not None):
            raise ValueError("@posterior_chain: is needed by the method 'mcmc', and by no other")
        if self.method != "mcmc" and self.posterior_start != "prior":
            raise ValueError("@posterior_start: only the method 'mcmc' has a posterior chain to start")
        for key in ("chain", "posterior_chain"):
            if getattr(self, key) is not None and getattr(self, key).adapt:
                raise ValueError(f"@{key}.adapt: only train_prior adapts its chain")
        if self.posterior_chain is not None and self.posterior_chain.space == "whitened-biased":
            raise ValueError("@posterior_chain.space: 'whitened-biased' is a density of priors; the posterior has none")
        if self.inference_every > 1 and (self.method != "mcmc" or self.posterior_start == "network"):
            raise ValueError("@inference_every: must be 1 where training needs the inference network at every step")
        if self.posterior_start == "network" and self.posterior_chain.start != "normal":
            raise ValueError("@posterior_chain.start: the chain starts at the network, as 'posterior_start' says")
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


KEYED = ("keyed", "matrix", "rows", "grid")
"""Kinds of table that spread out a metric that comes under several keys, ``metric:key`` (``grid``: ``row/column``)."""
SCORED = ("detection", "scores", "crossed")
"""Kinds of table whose columns are outlier scores under one measure, ``measure:score``."""


PUBLISHABLE = ("metrics", "rows", "crossed")
"""Kinds of table that print published values beside ours."""


class Published(Section):
    """A row of values that others published; printed beside ours and marked as theirs."""

    method: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    """Where the values stand; without it they are not printed."""
    values: Annotated[dict[str, Number], Field(min_length=1)]
    """Column → value, in the unit in which the column is printed: a metric, or the second part of the variants' names
    (kind ``crossed``)."""
    variant: str | None = None
    """The row of ours that it stands under; at the end of the table when left out."""


class Table(Section):
    kind: Literal[tuple(TABLES)]
    variants: Annotated[list[str], Field(min_length=1)]
    columns: Annotated[list[str], Field(min_length=1)]
    """Metrics, or ``measure:score`` with one measure for all (kinds ``detection``, ``scores``)."""
    caption: str = ""
    published: list[Published] = []
    notes: list[str] = []
    """What else a reader must know, for instance how a published value was measured."""

    @model_validator(mode="after")
    def _columns_exist(self):
        measures = dict.fromkeys(column.split(":")[0] for column in self.columns)
        plain = [name for name in METRICS if name not in DETECTION]
        for column in self.columns:
            measure, _, score = column.partition(":")
            if self.kind in KEYED and measure not in METRICS:
                raise ValueError(f"@columns: '{column}' is no metric;{near(column, METRICS)}")
            if self.kind in KEYED:
                continue
            if self.kind not in SCORED and column not in plain:
                raise ValueError(f"@columns: '{column}' is no metric;{near(column, plain)}")
            if self.kind in SCORED and (measure not in DETECTION or not score or len(measures) > 1):
                raise ValueError(
                    f"@columns: '{column}' must be measure:score, with the same measure in every column; "
                    f"measures: {', '.join(DETECTION)}"
                )
            if self.kind in SCORED and score not in SCORES and not LAYER_SCORE.fullmatch(score):
                raise ValueError(f"@columns: '{score}' is no score;{near(score, (*SCORES, 'kl_1', 'f_1', 'llr>1'))} …")
        return self

    @model_validator(mode="after")
    def _rows_fit(self):
        crossed = self.kind == "crossed"
        for name in self.variants if crossed else ():
            if not all(name.rpartition("-")):
                raise ValueError(f"@variants: '{name}' must be <row>-<column>, as the kind 'crossed' reads names")
        if self.published and self.kind not in PUBLISHABLE:
            raise ValueError(f"@published: a table of the kind '{self.kind}' has none; kinds: {', '.join(PUBLISHABLE)}")
        columns = [name.rpartition("-")[2] for name in self.variants] if crossed else self.columns
        rows = [] if crossed else self.variants
        for place, entry in enumerate(self.published):
            for column in entry.values:
                if column not in columns:
                    raise ValueError(f"@published.{place}.values.{column}: is no column;{near(column, columns)}")
            if entry.variant is not None and entry.variant not in rows:
                raise ValueError(f"@published.{place}.variant: '{entry.variant}' is no row;{near(entry.variant, rows)}")
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


def read_params(path: Path = PARAMS) -> Params:
    """Read and check a parameter file.

    Raises:
        ParamsError: one line a mistake, naming the file, the key and what is allowed.
    """
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the repository's top folder") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return parse_params(raw, str(path))


def parse_params(raw: Any, source: str = str(PARAMS)) -> Params:
    """Check parameters that are already in memory, such as Snakemake's ``config``; see :func:`read_params`."""
    if not isinstance(raw, dict):
        raise ParamsError(f"{source}: must be a mapping with the keys default_studies, runtime and one block a study")
    raw = {str(key): value for key, value in raw.items()}
    top = {key: raw.pop(key) for key in _TOP if key in raw}
    if not raw:
        raise ParamsError(f"{source}: has no study")
    studies = {name: _study(name, _extended(name, raw, source), source) for name in raw}
    params = _validate(Params, {**top, "studies": studies}, "", source)
    _assets_exist(params, source)
    for key in ("default_studies", "core_studies"):
        for name in getattr(params, key):
            if name not in studies:
                raise ParamsError(f"{source}: {key}: '{name}' is no study;{near(name, studies)}")
    return params


def _extended(name: str, blocks: dict, source: str, below: tuple[str, ...] = ()) -> Any:
    """A study's block, laid over the seeds and the base of the study that it ``extends``."""
    block = blocks[name]
    if not isinstance(block, dict) or "extends" not in block:
        return block
    other, seen = block["extends"], (*below, name)
    if other not in blocks:
        raise ParamsError(f"{source}: {name}.extends: '{other}' is no study;{near(other, blocks)}")
    if other in seen:
        raise ParamsError(f"{source}: {name}.extends: '{other}' extends this study itself")
    inherited = _extended(other, blocks, source, seen)
    if not isinstance(inherited, dict):
        return block
    base = {key: value for key, value in inherited.items() if key not in ("variants", "tables", "figures")}
    return merge(base, {key: value for key, value in block.items() if key != "extends"})


def _study(name: str, block: Any, source: str) -> Study:
    if not isinstance(block, dict):
        raise ParamsError(f"{source}: {name}: must be a study's block of settings, not {block!r};{near(name, _TOP)}")
    block = dict(block)
    own = {key: block.pop(key) for key in ("seeds", "variants", "tables", "figures") if key in block}
    unknown = [key for key in block if key not in Base.model_fields]
    if unknown:
        allowed = ["extends", *(k for k in Study.model_fields if k != "base"), *Base.model_fields]
        raise ParamsError(f"{source}: {name}.{unknown[0]}: unknown key;{near(unknown[0], allowed)}")
    variants = own.get("variants")
    if not isinstance(variants, dict) or not variants:
        raise ParamsError(f"{source}: {name}.variants: must map the name of each variant to its overrides")
    base = _validate(Base, block, name, source)
    resolved = {}
    for variant, overrides in variants.items():
        where = f"{name}.variants.{variant}"
        if not isinstance(overrides, dict):
            raise ParamsError(f"{source}: {where}: must be a block of overrides ({{}} for none), not {overrides!r}")
        resolved[str(variant)] = _validate(Base, merge(block, overrides), where, source)
    own["variants"] = resolved
    return _validate(Study, {**own, "base": base}, name, source)


def merge(base: dict, overrides: dict) -> dict:
    """``base`` with ``overrides`` laid over it; a component given another ``name`` replaces the block it overrides."""
    if overrides.get("name", base.get("name")) != base.get("name"):
        return overrides
    merged = dict(base)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = merge(base[key], value) if both else value
    return merged


def overridden(params: Base, text: str, where: str) -> Base:
    """A variant with a block of overrides laid over it, as the overrides of a variant are over the base.

    Args:
        text: the block as YAML, such as ``backbone: {encoder_channels: 8}``.
        where: what the text is, for messages.

    Raises:
        ParamsError: it is no block, or one that a variant can't have.
    """
    try:
        overrides = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise ParamsError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(overrides, dict):
        raise ParamsError(f"{where}: must be a block of overrides such as 'backbone: {{groups: [2]}}', not {text!r}")
    return _validate(Base, merge(params.model_dump(), overrides), "", where)


def canonical(section: BaseModel) -> dict:
    """What identifies a block: its values without the defaults, so that a new key with a default changes no digest."""
    return section.model_dump(mode="json", exclude_defaults=True)


_TOP = ("default_studies", "core_studies", "runtime", "assets")


def _assets_exist(params: Params, source: str) -> None:
    for study_name, study in params.studies.items():
        for variant_name, variant in study.variants.items():
            for name in asset_names(variant):
                if name not in params.assets:
                    where = f"{study_name}.variants.{variant_name}"
                    raise ParamsError(f"{source}: {where}: '{name}' is no asset;{near(name, params.assets)}")


def _validate(model: type[Section], raw: dict, where: str, source: str) -> Any:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        explained = [explain(model, raw, detail) for detail in error.errors()]
        lines = [f"{source}: {'.'.join(filter(None, [where, key]))}: {message}" for key, message in explained]
        raise ParamsError("\n".join(dict.fromkeys(lines))) from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML keeps the last of two equal keys and says nothing; an experiment must not depend on that."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the key '{key}' stands twice in one block")
            seen.add(key)
        return super().construct_mapping(node, deep)
