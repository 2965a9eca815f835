"""The interface of estimators of the gradient of log Z.

The gradient of the log likelihood of a prior p(ε) ∝ exp(f(T(ε))) p_0(ε) is E_q[∇f] − E_p[∇f]. An estimator gives the
second term, which is the gradient of log Z: samples of p with weights.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch

from jebm.models.priors.ebm import JointPrior
from jebm.training.loss import Scalars


class Estimate(NamedTuple):
    """Σ_i w_i ∇f_i as an estimate of the gradient of log Z."""

    f: torch.Tensor
    """(samples,): f at the samples, nats, differentiable in its parameters."""
    weights: torch.Tensor
    """(samples,): constants that sum to 1."""
    scalars: Scalars
    """For the history."""

    @property
    def mean(self) -> torch.Tensor:
        """Σ_i w_i f_i, whose gradient is the estimate."""
        return (self.weights * self.f).sum()


def equal(f: torch.Tensor) -> torch.Tensor:
    """Equal weights for values (samples,)."""
    return torch.full_like(f.detach(), 1 / len(f))


def effective_samples(weights: torch.Tensor) -> torch.Tensor:
    """Effective sample size 1 / Σ w² of weights that sum to 1, a scalar."""
    return 1 / weights.square().sum()


class Estimator(ABC):
    """An estimator for one prior, with its state.

    Args:
        prior: the prior that is trained.
    """

    watched: tuple[str, float] | None = None
    """A scalar of the history and its lower limit: below it, the estimate can't be relied on, and training stops."""

    def __init__(self, prior: JointPrior):
        self.prior = prior

    def energy(self, eps: torch.Tensor) -> torch.Tensor:
        """f(T(ε)) of flat ε, (batch,), nats; a *negative* energy."""
        return self.prior.energy(self.prior.hierarchy.top_down_flat(eps))

    @abstractmethod
    def __call__(self, positive: torch.Tensor, rng: torch.Generator) -> Estimate:
        """The estimate at the present parameters.

        Args:
            positive: this step's draws from the aggregate posterior, flat ε (batch, dimensions).
        """

    def state_dict(self) -> dict:
        """State that changes from step to step, such as walkers; saved in checkpoints."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Restore a state from :meth:`state_dict`."""

    def facts(self) -> dict:
        """What the record says about the estimator after the last step."""
        return {}
