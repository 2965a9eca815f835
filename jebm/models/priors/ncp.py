"""Noise-contrastive prior: the logit of a classifier between the aggregate posterior and N(0, I) as the tilt."""

from jebm.models.priors.joint import JointPrior


class NoiseContrastivePrior(JointPrior):
    """p(ε) ∝ r(ε) N(ε; 0, I) with r the odds of a classifier that tells q(ε) from N(0, I) (Aneja et al., 2021).

    The best classifier's logit is log q(ε) − log N(ε; 0, I), with Z = 1; a learned one comes near that at most, so that
    Z is estimated as for any other tilt. The logit is f of an energy, on the same top-down pass as the joint prior's:
    only the training differs. One classifier over all layers, unlike the hierarchical form, which has one a group.
    """

    fit = "jebm.training.ncp:fit"
    trained_with_chain = False
    contrastive = False
    joint_training = False
