"""The blocks of ``params.yaml`` that describe training: optimisers, chains of training, objectives."""

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
    """The optimiser and the training loop. All training by gradient descent has these keys."""

    steps: Count
    """Number of training steps. In each step the optimiser updates the weights once."""
    batch_size: Count
    """Number of images per step, summed over all devices."""
    learning_rate: Positive
    """Peak learning rate, which is reached at the end of the warm-up."""
    optimizer: Literal["adamw", "adam", "adamax"] = "adamw"
    """Which optimiser is used. ``adamw`` decouples weight decay from the gradient; ``adam`` and ``adamax`` add it to
    the gradient as an L2 penalty."""
    betas: Betas = [0.9, 0.999]
    """Decay rates per step of the running averages of the gradient and of its square (with ``adamax``, of its
    magnitude)."""
    epsilon: Positive = 1e-8
    """Constant that is added to the denominator of the optimiser's update, for numerical stability."""
    weight_decay: NonNegative = 0.0
    """Coefficient of the weight decay, whose kind depends on ``optimizer``."""
    warmup_steps: Natural = 0
    """Number of steps over which the learning rate grows linearly from near 0 to ``learning_rate``."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape of the decay of the learning rate after the warm-up."""
    final_learning_rate: Fraction = 0.0
    """Learning rate of the last step, as a fraction of ``learning_rate``. ``constant`` ignores it."""
    clip_gradient_norm: NonNegative = 0.0
    """Largest allowed norm of the gradient; a larger gradient is scaled down to it. 0 turns clipping off."""
    ema: Annotated[NonNegative, Field(lt=1)] = 0.0
    """Decay rate per step of the exponential moving average (EMA) of the weights. If it is above 0, the average is
    saved instead of the weights of the last step."""
    log_interval: Count = 50
    """Number of steps between two rows of the training history."""
    snapshots: Natural = 0
    """Number of snapshots of the model (weights, or their EMA) that are saved, for evaluations that average over
    models: the last step, the step ``snapshot_interval`` steps before it, and so on. 0 saves none."""
    snapshot_interval: Natural = 0
    """Number of steps between two snapshots."""

    @model_validator(mode="after")
    def _snapshots_fit(self):
        if bool(self.snapshots) != bool(self.snapshot_interval):
            raise ValueError("@snapshots: and snapshot_interval come together: how many, and how many steps apart")
        if self.snapshots and (self.snapshots - 1) * self.snapshot_interval >= self.steps:
            raise ValueError(
                f"@snapshots: {self.snapshots} models, {self.snapshot_interval} steps apart, need more than the "
                f"{self.steps} steps of training"
            )
        return self

    accumulate: Count = 1
    """Number of micro-batches per step (gradient accumulation), which saves memory. The gradient is that of the full
    batch, but noise is drawn separately for each micro-batch, so results differ numerically from ``accumulate: 1``."""
    fused: bool = False
    """Use the optimiser's fused kernel, which updates all parameters at once. Results agree up to rounding. Not
    available for ``adamax``."""
    skip_non_finite: Natural = 0
    """Largest number of consecutive steps that may be skipped because the loss, the gradient norm or a logged value is
    not finite. A skipped step changes no weights and counts as one of ``steps``. 0 stops training at the first such
    step."""
    skip_gradient_norm: NonNegative = 0.0
    """Skip a step if its gradient norm, before clipping, exceeds this value. 0 sets no limit."""
    max_skipped_fraction: Fraction = 0.1
    """Stop training if more than this fraction of the last 100 steps was skipped."""

    @model_validator(mode="after")
    def _options_fit_together(self):
        if self.fused and self.optimizer == "adamax":
            raise ValueError("@fused: there is no fused adamax, only adamw and adam")
        if self.skip_gradient_norm and not self.skip_non_finite:
            raise ValueError("@skip_gradient_norm: needs skip_non_finite, the steps in a row that may be skipped")
        return self


class Recalibration(Section):
    """Recompute the running statistics of the decoder's batch normalisation from draws of the Gaussian prior."""

    passes: Count = 500
    """Number of batches that are drawn."""
    batch_size: Count = 16
    """Number of images per batch."""
    temperature: Positive = 1.0
    """Factor on the noise ε of all layers; 1 draws from the prior itself."""


class TrainBackbone(Optimisation):
    """Stage 1: train the backbone and its inference network by maximising the evidence lower bound (ELBO)."""

    kl_warmup: Annotated[list[Annotated[list[Fraction], Field(min_length=2, max_length=2)]], Field(min_length=1)]
    """KL warm-up. For each layer, bottom first, ``[start, end]``: the weight of its KL term grows linearly from 0 at
    ``start`` to 1 at ``end``, both as fractions of ``steps``. A single entry applies to all layers."""
    horizontal_flips: bool = False
    """Flip each training image horizontally with probability 1/2, drawn anew every time the image is used."""
    min_kl_weight: Fraction = 0.0
    """Lower bound of the KL weight during the warm-up."""
    kl_balance: KlBalance = "none"
    """During the warm-up, scale each layer's KL weight in proportion to the layer's mean KL divided by its size, so
    that no layer is switched off early. The size is the number of latent dimensions for ``dimension``, and that of
    NVAE (appendix A) for ``scale``: pixels of the feature map divided by the number of layers at that scale. ``none``
    does not scale."""
    spectral_penalty: NonNegative = 0.0
    """Weight of the spectral regularisation: the sum over convolutions of the largest singular value of their filters
    (NVAE, section 3.2)."""
    batch_norm_penalty: NonNegative = 0.0
    """Weight of the sum over batch-norm layers of their largest absolute gain (NVAE)."""
    initial_penalty: NonNegative = 0.0
    """Initial value of those of the two penalty weights that are not 0. They change geometrically from here to their
    own values while the KL weight grows from 0 to 1. 0 keeps them constant."""
    recalibrate: Recalibration | None = None
    """After training, recompute the batch-norm statistics of the decoder from draws of the Gaussian prior. The saved
    backbone then has these statistics everywhere, also for the posterior. ``draw_samples.recalibrate`` changes them for
    sampling only."""


class ImportBackbone(Section):
    """Use the weights of a backbone that was trained elsewhere, instead of ``train_backbone``. Give either
    ``checkpoint`` or ``asset``."""

    format: Literal[tuple(IMPORTERS)]
    """Format of the file. ``jebm`` is what the command ``jebm import`` writes; ``nvae`` is a checkpoint of the
    published NVAE code."""
    checkpoint: DataPath | None = None
    """Path of the file; a relative path starts at the top folder of the repository."""
    asset: AssetName | None = None
    """Name of the file in the block ``assets``."""
    recalibrate: Recalibration | None = None
    """Recompute the batch-norm statistics of the decoder after the import. ``null`` keeps those of the file."""

    @model_validator(mode="after")
    def _one_file(self):
        if (self.checkpoint is None) == (self.asset is None):
            raise ValueError("@checkpoint: name the file either by its path here or by its name in assets as 'asset'")
        return self


class TrainingChain(Section):
    """A short Markov chain that is run from its start in every step of joint training."""

    kernel: schema("kernel")
    """Transition kernel of the chain."""
    steps: Count
    """Number of transitions."""
    space: LatentSpace = "whitened"
    """Coordinates in which the chain runs: ``whitened`` is the noise ε; ``z`` is z = T(ε), all layers at once (joint
    training of the paper). In ``z``, unadjusted Langevin with step size s is stable only while every σ_i > s/2, so
    choose the backbone's lower bound of σ accordingly."""
    start: ChainStart = "normal"
    """Distribution of the initial state: ``normal`` is N(0, I) in the chain's coordinates; ``prior`` is the
    Gaussian prior of the backbone, mapped to these coordinates."""
    gradients: Gradients = "autograd"
    """How the gradients of the log density are computed: by ``autograd``, or in ``closed-form`` (faster; falls back to
    autograd for networks that have none)."""


class Selection(Section):
    """Choose the final weights by the validation split: those with the highest gain G = E_q[tilt] − log Z, in nats per
    image, over the bound of the Gaussian prior."""

    every: Count = 50
    """Number of steps between two computations of the gain."""
    draws: Count = 4
    """Number of posterior draws per validation image."""
    proposals: Count = 10_000
    """Number of draws of the defensive proposal for the estimate of log Z."""


class TrainPrior(Optimisation):
    """Stage 2: train the energies by maximum likelihood while the backbone is frozen."""

    estimator: schema("estimator", optional=True)
    """The estimator of the gradient of log Z, the negative phase: ``short-run`` is that of the paper. ``null`` for
    priors that are trained without one (``ncp``)."""
    select: Selection | None = None
    """Save the weights (their EMA) of the step with the best likelihood on the validation split, instead of those of
    the last step."""
    allow_divergence: bool = False
    """If training diverges, save the last finite weights and record the step of the divergence instead of failing.
    Meant for variants that demonstrate divergence."""
    energy_l2: NonNegative = 0.0
    """Weight of the energy regularisation E[f(z⁺)²] + E[f(z⁻)²] in the loss (Du and Mordatch, 2019)."""
    max_energy_gap: Positive = 1.0e4
    """Training counts as diverged if the absolute energy gap |E[f(z⁺)] − E[f(z⁻)]|, in nats, exceeds this value. The
    gap of a healthy run is near 1; it grows by orders of magnitude once the chains no longer follow the density, long
    before any value overflows."""

    @model_validator(mode="after")
    def _estimator_fits(self):
        adaptation = getattr(self.estimator, "adaptation_steps", 0)
        if adaptation > self.steps:
            raise ValueError(f"@estimator.adaptation_steps: is {adaptation}, training has {self.steps} steps")
        kernel = getattr(self.estimator, "kernel", None)
        needs = "adaptation_steps needs" if adaptation else ""
        if self.estimator and self.estimator.name == "jarzynski":
            needs = "the weights of jarzynski need"
        if needs and not getattr(kernel, "adjusted", getattr(kernel.traits, "adjusted", False)):
            raise ValueError(f"@estimator.kernel.adjusted: {needs} a kernel with a Metropolis test (adjusted: true)")
        return self


class TrainJoint(Optimisation):
    """Train backbone, inference network and energies at once. The optimiser keys above apply to the backbone and the
    inference network."""

    method: Literal["mcmc", "variational"]
    """How the positive samples are drawn: ``mcmc`` runs Langevin on the posterior; ``variational`` uses the inference
    network, which is trained as well."""
    start: Literal["backbone", "scratch"] = "scratch"
    """Initial weights of the backbone: those of stage 1 (``train_backbone``), or random ones."""
    kl_warmup: Annotated[list[Annotated[list[Fraction], Field(min_length=2, max_length=2)]], Field(min_length=1)] = [
        [0.0, 0.0]
    ]
    """As in ``train_backbone``. The energy f is weighted by the smallest of the layers' KL weights. The default has no
    warm-up."""
    energy_learning_rate: Positive
    """Peak learning rate of the energies; its schedule is that of ``learning_rate``."""
    energy_weight_decay: NonNegative = 0.0
    """Weight decay of the energies."""
    chain: TrainingChain
    """The chain that draws the negative samples from the prior."""
    posterior_chain: TrainingChain | None = None
    """The chain that draws the positive samples from the posterior, for ``method: mcmc``."""
    horizontal_flips: bool = False
    """As in ``train_backbone``."""
    posterior_start: Literal["prior", "network"] = "prior"
    """Initial state of the posterior chain: ``prior`` follows the ``start`` of ``posterior_chain``; ``network`` is a
    draw from the inference network."""
    inference_interval: Count = 1
    """For ``method: mcmc``: train the inference network only in every n-th step, to save time. Must be 1 if the
    posterior chain starts from the network."""
    energy_l2: NonNegative = 0.0
    """As in ``train_prior``. Its gradient updates the energies only."""
    max_energy_gap: Positive = 1.0e4
    """As in ``train_prior``."""
    allow_divergence: bool = False
    """As in ``train_prior``."""

    @model_validator(mode="after")
    def _chain_fits_the_method(self):
        if (self.method == "mcmc") != (self.posterior_chain is not None):
            raise ValueError("@posterior_chain: is needed by the method 'mcmc', and by no other")
        if self.method != "mcmc" and self.posterior_start != "prior":
            raise ValueError("@posterior_start: only the method 'mcmc' has a posterior chain to start")
        if self.posterior_chain is not None and self.posterior_chain.space == "whitened-biased":
            raise ValueError("@posterior_chain.space: 'whitened-biased' is a density of priors; the posterior has none")
        if self.inference_interval > 1 and (self.method != "mcmc" or self.posterior_start == "network"):
            raise ValueError("@inference_interval: must be 1 where training needs the inference network at every step")
        if self.posterior_start == "network" and self.posterior_chain.start != "normal":
            raise ValueError("@posterior_chain.start: the chain starts at the network, as 'posterior_start' says")
        return self
