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
    "kd": Metric("KD ×10⁻³", -1, 2, "kernel distance (squared MMD, cubic kernel) in the same features", 1e-3),
    "fid": Metric("FID", -1, 2, "Fréchet Inception distance of samples to real images, in the mode of the protocol"),
    "kid": Metric("KID ×10³", -1, 2, "kernel Inception distance (squared MMD, cubic kernel), in the same mode", 1e3),
    "precision": Metric("precision", 1, 3, "share of samples within the manifold of real images"),
    "recall": Metric("recall", 1, 3, "share of real images within the manifold of samples"),
    "iw_bound": Metric("IW bound", 1, 2, "importance-weighted bound on log p(x), nats an image"),
    "elbo": Metric("ELBO", 1, 2, "evidence lower bound, nats an image"),
    "log_partition": Metric("log Z", 0, 3, "log partition function of the tilt, nats"),
    "log_partition_se": Metric("s.e. of log Z", 0, 4, "its standard error, nats", diagnostic=True),
    "log_partition_ess": Metric("ESS of log Z", 0, 3, "effective fraction of the draws behind log Z", diagnostic=True),
    "acceptance": Metric("acceptance", 0, 3, "accepted fraction of the chain's proposals", diagnostic=True),
    "effective_sample_size": Metric("ESS", 0, 0, "effective sample size of the importance weights", diagnostic=True),
    "langevin_steps": Metric("steps", 0, 0, "steps of the sampler's chains", diagnostic=True),
    "pool": Metric("pool", 0, 0, "Gaussian draws from which the sampler resampled", diagnostic=True),
    "kl": Metric("KL", 0, 2, "KL of the inference network's layer from the Gaussian prior, nats an image"),
    "kl_total": Metric("total KL", 0, 2, "KL summed over layers, nats an image"),
    "seconds_backbone": Metric("stage 1, s", 0, 0, "training time on one core, as it was in this run"),
    "seconds_prior": Metric("stage 2, s", 0, 0, "training time on one core, as it was in this run"),
    "seconds_joint": Metric("training, s", 0, 0, "training time on one core, as it was in this run"),
    "parameters_backbone": Metric("parameters", 0, 0, "of the hierarchy with its inference network"),
    "parameters_prior": Metric("parameters of f", 0, 0, "of the energies"),
    "parameters_joint": Metric("joint parameters", 0, 0, "of hierarchy, inference network and energies"),
    "diverged_at_prior": Metric("diverged at", 0, 0, "step of stage 2: not finite, or an energy gap beyond 10⁴"),
    "skipped_backbone": Metric("skipped", -1, 0, "steps of stage 1 that were not finite and were skipped"),
    "skipped_prior": Metric("skipped", -1, 0, "steps of stage 2 that were not finite and were skipped"),
    "skipped_joint": Metric("skipped", -1, 0, "steps of joint training that were not finite and were skipped"),
    "diverged_at_joint": Metric("diverged at", 0, 0, "step of training: not finite, or an energy gap beyond 10⁴"),
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

DISTANCES = ("fd", "kd")
"""Distances of samples in feature spaces that are not streamed."""
STREAMED_DISTANCES = ("fid", "kid", "precision", "recall")
"""Distances of samples in streamed feature spaces, such as Inception's."""


def outlier_scores(layers: int) -> list[str]:
    """The names of the outlier scores of a backbone with this many layers, including those of baselines without a
    backbone."""
    own = ["elbo", "elbo+f", "f", "log-joint", "iw", "iw+f", "reconstruction", "mahalanobis", "isolation-forest"]
    above = [f"llr>{layer}" for layer in range(1, layers)]
    return [*own, *above, *(f"{of}_{layer}" for of in ("kl", "f") for layer in range(1, layers + 1))]


FLOOR = "data"
"""Variant name of the comparison of real images with real images."""


def frechet_metric(metrics: Iterable[str]) -> str:
    """The name of the Fréchet distance among some metrics: ``fid`` in Inception's feature space, otherwise ``fd``."""
    return "fid" if "fid" in set(metrics) else "fd"
