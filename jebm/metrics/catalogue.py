"""What each metric is: its label, which direction is better, and how it is printed."""

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
    """Factor on the value where it is printed."""
    diagnostic: bool = False
    """Whether it says how other numbers were made, and is no result of its own: ``jebm diff`` leaves it out."""


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
    "kl_smallest": Metric("smallest KL", 1, 2, "KL of the layer that uses least, nats an image"),
    "kl_total": Metric("total KL", 0, 2, "KL summed over layers, nats an image"),
    "active_units": Metric("active units", 0, 1, "latent dimensions whose posterior mean varies over images"),
    "probe": Metric("probe", 1, 3, "test accuracy of a linear probe for the class on a layer's posterior mean"),
    "fd_without": Metric("FD without", -1, 2, "FD of the density when one term of f is left out after training"),
    "fd_with_only": Metric(
        "FD with only", -1, 2, "FD of the density when all other terms of f are left out after training"
    ),
    "ess_without": Metric("ESS without", 0, 3, "effective fraction of the importance weights behind FD without"),
    "term_gap": Metric(
        "gap of the term", 0, 2, "mean of f_i on posterior draws less its mean on the Gaussian prior, nats"
    ),
    "log_joint": Metric("log joint", 0, 2, "mean log p(x, ε) of posterior draws without log Z, nats an image"),
    "log_joint_gap": Metric("log joint − ref.", 0, 2, "that, less the reference chains', nats; 0 is right"),
    "reconstruction_mse": Metric("MSE ×10⁻³", 0, 2, "squared error of the decoded mean, per pixel", 1e3),
    "iw_gap": Metric("IW gap", -1, 3, "log p(x) less the network's importance-weighted bound with K draws, nats"),
    "importance_ess": Metric("ESS", 1, 3, "effective fraction of the importance weights of one image's draws"),
    "mean_error": Metric("mean error", -1, 3, "rms error of the network's mean, in posterior sds; 0 is right"),
    "variance_ratio": Metric("variance ratio", 0, 3, "network's over reference's variance, geometric mean; 1 is right"),
    "residual_sd": Metric("residual sd", 0, 3, "sd of the reference's draws as the network standardises; 1 is right"),
    "r_hat_worst": Metric("worst R-hat", -1, 3, "the same, of the worst image"),
    "converged": Metric("converged", 1, 2, "fraction of images whose reference chains have R-hat below 1.1"),
    "reference_acceptance": Metric("acceptance", 0, 3, "accepted fraction of the reference chains' proposals"),
    "accuracy_reached": Metric("reached", 1, 2, "whether the mean log joint came within tolerance of the reference's"),
    "steps_to_accuracy": Metric("steps", -1, 0, "steps until it did; the chain's length where it did not"),
    "seconds_to_accuracy": Metric("seconds", 0, 2, "the time that these steps took in this run"),
    "posterior_seconds": Metric("seconds", 0, 3, "time for as many draws as there are cold chains, in this run"),
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
    "left": Metric("left", -1, 3, "share of the chains with a coordinate that is not finite or exceeds 1000"),
    "left_at": Metric("first at step", 0, 0, "step after which the first chain had left"),
    "fd_steps": Metric("FD", -1, 2, "Fréchet distance of the chains' states after k steps (one gradient a step)"),
    "fd_long": Metric("FD, long runs", -1, 2, "Fréchet distance of states spread over the second half of long runs"),
    "fd_density": Metric("FD, density", -1, 2, "Fréchet distance of the density's own, importance-resampled samples"),
    "fd_density_ess": Metric("ESS of these", 0, 0, "effective sample size behind the density's own samples"),
    "r_hat": Metric("R-hat", -1, 3, "rank-normalised split R-hat, the largest of all latents and f or the log joint"),
    "r_hat_f": Metric("R-hat of f", -1, 3, "rank-normalised split R-hat of f over long runs"),
    "autocorrelation_time": Metric("τ, steps", -1, 1, "integrated autocorrelation time of the slowest latent or f"),
    "autocorrelation_time_f": Metric("τ of f, steps", -1, 1, "integrated autocorrelation time of f"),
    "ess_per_step": Metric("ESS a step", 1, 3, "effective samples of the slowest latent or f a step of a chain"),
    "ess_per_second": Metric("ESS a second", 1, 0, "the same a second of processor time, as it was in this run"),
    "group_gap": Metric("energy gap", 0, 3, "mean of f_i on posterior draws less its mean where chains end, nats"),
    "gap_total": Metric("total energy gap", 0, 3, "the same of f"),
    "noise_mean": Metric("mean of ε", -1, 4, "rms over a layer's dimensions of the noise's mean after a chain, f = 0"),
    "noise_variance": Metric("variance of ε", 0, 4, "mean over a layer's dimensions of the noise's variance, f = 0"),
    "noise_variance_predicted": Metric("predicted", 0, 4, "the variance that the kernel's step size leads to, f = 0"),
    "noise_mean_worst": Metric("worst mean of ε", -1, 4, "the largest over layers of the mean of ε; f = 0"),
    "noise_variance_error": Metric("variance error", -1, 4, "largest over layers, variance of ε less the predicted"),
    "log_z": Metric("log Z", 0, 3, "log partition function of the tilt, nats; annealed from below and above"),
    "log_z_se": Metric("s.e.", 0, 3, "standard error of log Z by the delta method, nats"),
    "log_z_ess": Metric("effective fraction", 1, 3, "(Σw)² / (n Σw²) of the weights behind log Z"),
    "log_z_gap": Metric(
        "gap", 0, 3, "upper less lower annealed log Z, nats; bounds in expectation, so noise may cross"
    ),
    "annealing_acceptance": Metric("acceptance", 0, 3, "accepted fraction of the proposals of both annealing runs"),
    "iw_bound_annealed": Metric("IW bound", 1, 2, "importance-weighted bound on log p(x) with the upper log Z, nats"),
    "bits_per_dim": Metric("bits/dim", -1, 3, "the same in bits a pixel value, density times cell volume"),
    "auroc": Metric("AUROC", 1, 3, "area under the ROC curve"),
    "auprc": Metric("AUPRC", 1, 3, "area under the precision–recall curve (average precision)"),
    "fpr80": Metric("FPR at 80 % TPR", -1, 3, "false-positive rate where 80 % of the outliers are found"),
    "auroc_gain": Metric("AUROC gain", 1, 4, "AUROC of the score elbo+f less that of elbo"),
    "auprc_gain": Metric("AUPRC gain", 1, 4, "AUPRC of the score elbo+f less that of elbo"),
}

DISTANCES = ("fd", "kd")
"""What samples are measured by in most feature spaces."""
STREAMED_DISTANCES = ("fid", "kid", "precision", "recall")
"""The same in spaces that are streamed, such as Inception's."""

def outlier_scores(layers: int) -> list[str]:
    """The names of the outlier scores of a backbone with so many layers, and of those that need no backbone."""
    own = ["elbo", "elbo+f", "f", "log-joint", "iw", "iw+f", "reconstruction", "mahalanobis", "isolation-forest"]
    above = [f"llr>{layer}" for layer in range(1, layers)]
    return [*own, *above, *(f"{of}_{layer}" for of in ("kl", "f") for layer in range(1, layers + 1))]


FLOOR = "data"
"""The variant name under which real images are compared with real images."""


def frechet_metric(metrics: Iterable[str]) -> str:
    """The name of the Fréchet distance of samples among some metrics: ``fid`` in Inception's space."""
    return "fid" if "fid" in set(metrics) else "fd"


METRICS |= {
    name: Metric(*entry)
    for target in COMPONENTS["evaluation"].values()
    for name, entry in traits(target).get("metrics", {}).items()
}  # those that evaluations declare in their own files
