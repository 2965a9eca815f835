"""Priors over all layers as tilts of the Gaussian hierarchy: p(ε) = exp(tilt(ε)) N(ε; 0, I) / Z.

Every prior of this project has this form in whitened space; the tilt of the Gaussian prior is zero. Sampling, the
likelihood and outlier detection need only the tilt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from jebm.config.components import build
from jebm.models.backbones.base import Hierarchy, TopDown, standard_normal_log_prob


class Prior(nn.Module, ABC):
    """A density p(ε) ∝ exp(tilt(ε)) N(ε; 0, I) on flat whitened latents (batch, dimensions)."""

    normalised = False
    """Whether Z = 1 exactly."""
    exact = False
    """Whether :meth:`sample` makes exact draws, which the sampler ``ancestral`` needs."""
    evaluable = True
    """Whether :meth:`tilt` can be evaluated. Likelihood, outlier scores, resampling and joint chains need it."""
    candidate = True
    """Whether tables may mark it as the best prior."""
    sequential = False
    """Whether it is sampled layer by layer, by the sampler ``sequential``. Its energy must have one term per layer."""
    fit: str | None = None
    """``module:function`` that fits it on a frozen backbone (stage 2), ``fit(prior, data, settings, run)``; None if
    nothing is learned."""
    by_gradient = False
    """Whether it is trained by gradient steps with the settings of ``train_prior``."""
    estimators: tuple[str, ...] = ()
    """The estimators of the gradient of log Z (``train_prior.estimator``) with which it can be trained; none if it is
    trained without one."""
    contrastive = False
    """Whether its loss is :class:`jebm.training.ebm.LikelihoodLoss`, whose chains may also run in z-space and which can
    penalise large energies."""
    joint_training = False
    """Whether ``train_joint`` can train it together with the backbone."""
    adapted_step_size: float | None = None
    """The final step size of the training chain, a standard deviation, if training adapted it; otherwise None."""

    def __init__(self, hierarchy: Hierarchy):
        super().__init__()
        # In a list, so that the backbone is no submodule and its parameters are neither trained nor saved here.
        self._hierarchy = [hierarchy]

    @property
    def hierarchy(self) -> Hierarchy:
        """The backbone whose latents the prior describes."""
        return self._hierarchy[0]

    @property
    def proposal(self) -> Prior | None:
        """A normalised prior that is close to this one, for importance sampling and independent moves; None is N(0,
        I)."""
        return None

    @abstractmethod
    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        """log p(ε) − log N(ε; 0, I) + log Z, (batch,), nats; a *negative* energy."""

    def tilt_after(self, eps: torch.Tensor, top: TopDown) -> torch.Tensor:
        """:meth:`tilt` of ε whose top-down pass is already computed."""
        return self.tilt(eps)

    def log_prob(self, eps: torch.Tensor) -> torch.Tensor:
        """log p(ε) + log Z of flat ε, (batch,), nats. The Jacobian of T cancels, so it is not computed."""
        return self.tilt(eps) + standard_normal_log_prob(eps)

    def sample(self, count: int, rng: torch.Generator) -> torch.Tensor:
        """Exact draws, (count, dimensions).

        Raises:
            NotImplementedError: this prior can only be sampled by a chain or by resampling.
        """
        raise NotImplementedError


class EnergyPrior(Prior):
    """Base class of priors with an energy on the top-down pass of a frozen backbone."""

    def __init__(self, hierarchy: Hierarchy, energy: Any):
        super().__init__(hierarchy)
        self.energy = build("energy", energy, hierarchy)

    def initialise(self, rng: torch.Generator) -> None:
        self.energy.initialise(rng)


def build_prior(spec: Any, hierarchy: Hierarchy) -> Prior:
    """The prior that the block ``prior`` of a variant describes, for a backbone."""
    return build("prior", spec, hierarchy)
