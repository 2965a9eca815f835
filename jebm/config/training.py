"""The blocks of ``params.yaml`` that say how something is trained: optimisers, chains of training, objectives."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from jebm.config.catalogue import IMPORTERS
from jebm.config.components import Section, schema
from jebm.config.types import (
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
    Positive,
)


class Optimisation(Section):
    """The optimiser and the loop around it, common to all that is trained by gradient."""

    steps: Count
    """Updates of the parameters."""
    batch_size: Count
    """Images in each step, of all devices together."""
    learning_rate: Positive
    """The largest one, at the end of the warm-up."""
    optimizer: Literal["adamw", "adam", "adamax"] = "adamw"
    """Weight decay is decoupled in ``adamw``, an L2 term of the gradient in ``adam`` and ``adamax``."""
    betas: Betas = [0.9, 0.999]
    """Decay per step of the averages of the gradient and of its square (``adamax``: of its size)."""
    epsilon: Positive = 1e-8
    """Added to the denominator of the optimiser's update."""
    weight_decay: NonNegative = 0.0
    """How strong the weight decay is; ``optimizer`` says of which kind."""
    warmup_steps: Natural = 0
    """Steps in which the learning rate grows linearly from near 0."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    final_learning_rate: Fraction = 0.0
    """Where the schedule ends, as a fraction of learning_rate."""
    clip_gradient_norm: NonNegative = 0.0
    """0 clips nothing."""
    ema: Annotated[NonNegative, Field(lt=1)] = 0.0
    """Decay per step of the exponential moving average that is published; 0 publishes the last weights."""
    log_every: Count = 50
    """Steps between two rows of the training log."""
    snapshots: Natural = 0
    """How many models of the end of training are published besides the last one, for evaluations that are means over
    models: those of the last step, of ``snapshot_every`` steps before, and so on."""
    snapshot_every: Natural = 0
    """Steps between two snapshots."""

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
    skip_non_finite: Natural = 0
    """How many steps in a row may be skipped because a loss, a gradient or a value of the history is not finite. A
    skipped step counts as one of ``steps``. 0 stops at the first one."""
    skip_gradient_norm: NonNegative = 0.0
    """A step whose gradient norm, before clipping, exceeds this is skipped too; 0 sets no limit."""
    skip_share: Fraction = 0.1
    """Training stops when more than this share of the last 100 steps were skipped."""

    @model_validator(mode="after")
    def _options_fit_together(self):
        if self.fused and self.optimizer == "adamax":
            raise ValueError("@fused: there is no fused adamax, only adamw and adam")
        if self.skip_gradient_norm and not self.skip_non_finite:
            raise ValueError("@skip_gradient_norm: needs skip_non_finite, the steps in a row that may be skipped")
        return self


class Recalibration(Section):
    """Batch-norm statistics of the decoder, drawn anew from the Gaussian prior before anything is sampled."""

    passes: Count = 500
    """Batches that are drawn."""
    batch_size: Count = 16
    """Images in each of them."""
    temperature: Positive = 1.0
    """Factor on ε of all layers; 1 is the prior itself."""


class TrainBackbone(Optimisation):
    """Stage 1: the evidence lower bound of hierarchy and inference network."""

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
    """Share of proposals that the Metropolis test should accept."""
    steps: Count
    """Steps of training."""


class ImportBackbone(Section):
    """Weights of a backbone that was trained elsewhere, instead of ``train_backbone``."""

    format: Literal[tuple(IMPORTERS)]
    """What wrote the file; ``jebm`` is what ``jebm import`` writes."""
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
    """A short chain that is run anew in every step of training."""

    kernel: schema("kernel")
    """The transition of the chain."""
    steps: Count
    """Transitions of each chain."""
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
    """Stage 2: maximum likelihood of the energies on the frozen backbone."""

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
    """As ``learning_rate``, of the energies."""
    energy_weight_decay: NonNegative = 0.0
    """As ``weight_decay``, of the energies."""
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
