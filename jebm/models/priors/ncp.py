"""Noise-contrastive prior: its tilt is the logit of a classifier between the aggregate posterior and N(0, I)."""

from jebm.models.priors.ebm import JointPrior


class NoiseContrastivePrior(JointPrior):
    """p(ε) ∝ r(ε) N(ε; 0, I), where r are the odds of a classifier between q(ε) and N(0, I) (Aneja et al., 2021).

    The logit of the optimal classifier is log q(ε) − log N(ε; 0, I), for which Z = 1. A trained classifier only
    approximates it, so Z is estimated as for any other tilt. The logit is an energy f on the top-down pass, as in the
    joint prior; only the training differs. There is one classifier for all layers, whereas the hierarchical form of
    NCP-VAE has one per layer.

    Args:
        base: the normalised density from which the classifier tells the aggregate posterior.
        proposal: a normalised density close to the prior, as for the prior ``ebm``.
    """

    fit = "jebm.training.ncp:fit"
    estimators = ()
    contrastive = False
    joint_training = False
