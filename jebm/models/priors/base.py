"""Priors over all layers as tilts of the Gaussian hierarchy: p(ε) = exp(tilt(ε)) N(ε; 0, I) / Z.

Every prior of this project has this form in whitened space, the Gaussian one with a tilt of zero. Nothing else is
needed to sample it, to estimate its likelihood or to detect with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from jebm.config.components import build
from jebm.models.backbones.base import Hierarchy, TopDown, standard_normal_log_prob


class Prior(nn.Module, ABC):
    """A tilt of N(0, I) over flat whitened latents (batch, dimensions)."""

    normalised = False
    """Whether Z = 1 is known exactly, and :meth:`sample` draws exactly."""
    evaluable = True
    """Whether :meth:`tilt` is known, up to one constant. Without it there is no likelihood, no outlier score, no
    resampling and no chain over all layers at once."""
    sequential = False
    """Whether it is drawn layer by layer, by the sampler ``sequential``. It needs an energy with a term per layer."""
    fit: str | None = None
    """``module:function`` that learns it on a frozen backbone (stage 2): ``fit(prior, data, settings, run)``.
    None: there is nothing to learn."""
    by_gradient = False
    """Whether it is learned by gradient steps, as ``train_prior`` describes them."""
    trained_with_chain = False
    """Whether these steps run the chain ``train_prior.chain``."""
    contrastive = False
    """Whether its loss is :func:`jebm.training.ebm.contrastive_loss`, whose chains may also run in the space of z, and
    which can penalise large energies."""
    joint_training = False
    """Whether ``train_joint`` can train it together with the backbone."""
    adapted_step_size: float | None = None
    """The step size that training ended with, where it adapted that of its chain; a standard deviation."""

    def __init__(self, hierarchy: Hierarchy):
        super().__init__()
        # In a list, so that the frozen backbone is neither a parameter of the prior nor saved with it.
        self._hierarchy = [hierarchy]

    @property
    def hierarchy(self) -> Hierarchy:
        """The backbone that the prior stands on."""
        return self._hierarchy[0]

    @abstractmethod
    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        """log p(ε) − log N(ε; 0, I), up to the constant log Z, (batch,), nats; a *negative* energy."""

    def tilt_after(self, eps: torch.Tensor, top: TopDown) -> torch.Tensor:
        """:meth:`tilt` where the top-down pass of ε has already been made."""
        return self.tilt(eps)

    def log_prob(self, eps: torch.Tensor) -> torch.Tensor:
        """The unnormalised log density of flat ε, (batch,): exact, since the Jacobian of T cancels."""
        return self.tilt(eps) + standard_normal_log_prob(eps)

    def sample(self, count: int, rng: torch.Generator) -> torch.Tensor:
        """Exact draws, (count, dimensions).

        Raises:
            NotImplementedError: this prior can only be sampled by a chain or by resampling.
        """
        raise NotImplementedError


class GaussianPrior(Prior):
    """The backbone's own prior: no tilt."""

    normalised = True

    def __init__(self, hierarchy: Hierarchy):
        super().__init__(hierarchy)
        self.dimensions = hierarchy.dimensions

    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        return eps.new_zeros(len(eps))

    def sample(self, count: int, rng: torch.Generator) -> torch.Tensor:
        return torch.randn(count, self.dimensions, generator=rng, device=rng.device)


class EnergyPrior(Prior):
    """What priors with an energy on the top-down pass of a frozen backbone share."""

    def __init__(self, hierarchy: Hierarchy, energy: Any):
        super().__init__(hierarchy)
        self.energy = build("energy", energy, hierarchy)

    def initialise(self, rng: torch.Generator) -> None:
        self.energy.initialise(rng)


def build_prior(spec: Any, hierarchy: Hierarchy) -> Prior:
    """The prior that a ``prior:`` block of params.yaml describes, on a backbone."""
    return build("prior", spec, hierarchy)
