"""The metrics: label, direction of improvement, and how each is printed."""

from collections.abc import Iterable
from typing import NamedTuple

from jebm.config.catalogue import COMPONENTS
from jebm.config.source import traits


class Metric(NamedTuple):
    label: str
    better: int
    """−1: lower is better, 1: higher is better, 0: neither."""
    digits: int
    about: str
    scale: float = 1.0
    """Factor on the printed value."""
    diagnostic: bool = False
    """Whether it describes how other numbers were made and is not a result itself; ``jebm diff`` leaves it out."""


METRICS = {
    "fd": Metric(
        "FD", -1, 2, "Fréchet distance of samples to held-out data in the features of the protocol (not a FID)"
    ),
    "kd": Metric(
        "KD ×10⁻³", -1, 2, "kernel distance (squared MMD, cubic kernel) in the features of the protocol", 1e-3
    ),
    "fid": Metric("FID", -1, 2, "Fréchet Inception distance of samples to real images, in the mode of the protocol"),
    "kid": Metric(
        "KID ×10³", -1, 2, "kernel Inception distance (squared MMD, cubic kernel), in the mode of the protocol", 1e3
    ),
    "precision": Metric("precision", 1, 3, "share of samples within the manifold of real images"),
    "recall": Metric("recall", 1, 3, "share of real images within the manifold of samples"),
    "iw_bound": Metric("IW bound", 1, 2, "importance-weighted bound on log p(x), nats per image"),
    "iw_bound_difference": Metric(
        "IW bound difference", 1, 2, "IW bound less that of another variant, on the same images, nats per image"
    ),
    "elbo": Metric("ELBO", 1, 2, "evidence lower bound, nats per image"),
    "bits_per_dim": Metric("bits/dim", -1, 3, "the importance-weighted bound in bits per pixel value"),
    "log_z": Metric("log Z", 0, 3, "log partition function of the tilt, nats"),
    "log_z_se": Metric("s.e. of log Z", 0, 3, "standard error of log Z by the delta method, nats", diagnostic=True),
    "log_z_ess": Metric(
        "ESS of log Z", 0, 0, "effective sample size (Σw)² / Σw² of the weights behind log Z", diagnostic=True
    ),
    "log_z_gap": Metric(
        "gap of log Z",
        0,
        3,
        "largest difference between the estimates by importance sampling and by annealing from both sides, nats",
        diagnostic=True,
    ),
    "log_z_agrees": Metric(
        "log Z agrees", 0, 0, "1 if the estimates of log Z agree within their errors", diagnostic=True
    ),
    "annealing_acceptance": Metric(
        "annealing acceptance", 0, 3, "accepted fraction of the proposals of both annealing runs", diagnostic=True
    ),
    "acceptance": Metric("acceptance", 0, 3, "accepted fraction of the chain's proposals", diagnostic=True),
    "effective_sample_size": Metric("ESS", 0, 0, "effective sample size of the importance weights", diagnostic=True),
    "langevin_steps": Metric("steps", 0, 0, "steps of the sampler's chains", diagnostic=True),
    "pool": Metric("pool", 0, 0, "draws of the proposal from which the sampler resampled", diagnostic=True),
    "kl": Metric("KL", 0, 2, "KL of the inference network's layer from the Gaussian prior, nats per image"),
    "kl_total": Metric("total KL", 0, 2, "KL summed over layers, nats per image"),
    "seconds_backbone": Metric("stage 1, s", 0, 0, "training time on one core, as it was in this run"),
    "seconds_prior": Metric("stage 2, s", 0, 0, "training time on one core, as it was in this run"),
    "seconds_joint": Metric("training, s", 0, 0, "training time on one core, as it was in this run"),
    "parameters_backbone": Metric("parameters", 0, 0, "of the hierarchy with its inference network", diagnostic=True),
    "parameters_prior": Metric(
        "parameters of the prior", 0, 0, "of energies, base and proposal together", diagnostic=True
    ),
    "parameters_joint": Metric(
        "joint parameters", 0, 0, "of hierarchy, inference network and energies", diagnostic=True
    ),
    "diverged_at_prior": Metric(
        "diverged at", 0, 0, "step of stage 2: not finite, or an energy gap beyond 10⁴", diagnostic=True
    ),
    "selected_step_prior": Metric(
        "selected step", 0, 0, "step of stage 2 with the highest validation gain", diagnostic=True
    ),
    "validation_gain_prior": Metric(
        "validation gain", 1, 2, "gain of the bound over the Gaussian prior on the validation split, nats per image"
    ),
    "skipped_backbone": Metric(
        "skipped", -1, 0, "steps of stage 1 that were not finite and were skipped", diagnostic=True
    ),
    "skipped_prior": Metric(
        "skipped", -1, 0, "steps of stage 2 that were not finite and were skipped", diagnostic=True
    ),
    "skipped_joint": Metric(
        "skipped", -1, 0, "steps of joint training that were not finite and were skipped", diagnostic=True
    ),
    "diverged_at_joint": Metric(
        "diverged at", 0, 0, "step of training: not finite, or an energy gap beyond 10⁴", diagnostic=True
    ),
    "non_finite": Metric("non-finite", -1, 4, "share of the sampler's chains that were not finite and were dropped"),
    "r_hat": Metric("R-hat", -1, 3, "rank-normalised split R-hat, the largest of all latents and f or the log joint"),
    "auroc": Metric("AUROC", 1, 3, "area under the ROC curve"),
    "auprc": Metric("AUPRC", 1, 3, "area under the precision–recall curve (average precision)"),
    "fpr80": Metric("FPR at 80 % TPR", -1, 3, "false-positive rate where 80 % of the outliers are found"),
    "auroc_gain": Metric("AUROC gain", 1, 4, "AUROC of the score elbo+f less that of elbo"),
    "auprc_gain": Metric("AUPRC gain", 1, 4, "AUPRC of the score elbo+f less that of elbo"),
}
METRICS |= {
    name: Metric(*entry)
    for target in COMPONENTS["evaluation"].values()
    for name, entry in traits(target).get("metrics", {}).items()
}
"""Name → metric. Evaluations declare their metrics in their own modules; the metrics of other stages, and those that
several evaluations measure, are listed above."""

BOUNDS = ("elbo", "iw_bound", "bits_per_dim")
"""Bounds on log p(x), which are reported only where the estimates of log Z agree."""


def is_clock_time(metric: str) -> bool:
    """Whether a metric is a time or a rate by the clock. Its name then says so; it differs between runs."""
    return "second" in metric


DISTANCES = ("fd", "kd")
"""Distances of samples in feature spaces that are not streamed."""
STREAMED_DISTANCES = ("fid", "kid", "precision", "recall")
"""Distances of samples in streamed feature spaces, such as Inception's."""
NOISE = "_noise"
"""Suffix of the standard deviation of a distance over the sample sets of one seed."""
METRICS |= {
    name + NOISE: Metric(
        f"noise of {known.label}", 0, known.digits, "its standard deviation over the sample sets of one seed",
        known.scale, diagnostic=True,
    )
    for name, known in METRICS.items()
    if name in DISTANCES + STREAMED_DISTANCES
}  # fmt: skip


def outlier_scores(layers: int) -> list[str]:
    """The names of the outlier scores of a backbone with this many layers, including those of baselines without a
    backbone."""
    own = ["elbo", "elbo+f", "f", "log-joint", "iw", "iw+f", "reconstruction", "mahalanobis", "isolation-forest"]
    above = [f"llr>{layer}" for layer in range(1, layers)]
    return [*own, *above, *(f"{of}_{layer}" for of in ("kl", "f") for layer in range(1, layers + 1))]


FLOOR = "real-data"
"""Variant name of the comparison of real images with real images."""


def frechet_metric(metrics: Iterable[str]) -> str:
    """The name of the Fréchet distance among some metrics: ``fid`` in Inception's feature space, otherwise ``fd``."""
    return "fid" if "fid" in set(metrics) else "fd"
