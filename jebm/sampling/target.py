"""The target of a chain: an unnormalised log density and its gradient, by autograd or in closed form."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from jebm.models.backbones.base import standard_normal_log_prob
from jebm.models.priors.base import Prior


@dataclass(frozen=True)
class Target:
    """log p(x) = tilt(x) + base(x) + const on flat x (batch, dimensions).

    Attributes:
        tilt: the part of the log density besides the base, (batch,), nats.
        gaussian_base: whether the base is log N(0, I), as in whitened space, or 0, so that the tilt is the log density.
        closed_form: computes the tilt and its gradient without autograd, equal up to rounding. The flag says whether
            the tilt is needed; if not, None may stand in its place.
        prior: the prior that this is the density of, whose proposal a kernel may use; None if it is none.
        lean: whether unadjusted chains skip values of the density, which their states do not depend on.
    """

    tilt: Callable[[torch.Tensor], torch.Tensor]
    gaussian_base: bool = True
    closed_form: Callable[[torch.Tensor, bool], tuple[torch.Tensor | None, torch.Tensor]] | None = None
    lean: bool = False
    prior: Prior | None = None

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """log p(x) up to its constant, (batch,), nats."""
        return self.tilt(x) + standard_normal_log_prob(x) if self.gaussian_base else self.tilt(x)

    def tilt_and_gradient(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.closed_form is not None:
            with torch.no_grad():
                return self.closed_form(x, True)
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            tilt = self.tilt(x)
            # A tilt that does not depend on x (the Gaussian prior's) has no graph.
            gradient = torch.autograd.grad(tilt.sum(), x)[0] if tilt.requires_grad else torch.zeros_like(x)
        return tilt.detach(), gradient

    def log_prob_and_gradient(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """log p(x) up to its constant, (batch,), nats, and its gradient, of the shape of x."""
        tilt, gradient = self.tilt_and_gradient(x)
        if not self.gaussian_base:
            return tilt, gradient
        return tilt + standard_normal_log_prob(x), gradient - x

    def tilt_gradient(self, x: torch.Tensor) -> torch.Tensor:
        """The gradient of the tilt without its value, of the shape of x."""
        if self.closed_form is None:
            return self.tilt_and_gradient(x)[1]
        with torch.no_grad():
            return self.closed_form(x, False)[1]

    def gradient(self, x: torch.Tensor) -> torch.Tensor:
        """The gradient of log p without its value, of the shape of x."""
        gradient = self.tilt_gradient(x)
        return gradient - x if self.gaussian_base else gradient


class State:
    """The states x of a population of chains, with the value and the gradient of the kernel at x."""

    __slots__ = ("gradient", "value", "x")

    def __init__(self, x: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor):
        self.x, self.value, self.gradient = x, value, gradient

    def where(self, accepted: torch.Tensor, other: "State") -> "State":
        """This state for the chains where ``accepted`` (batch,) is true, and ``other`` for the rest."""
        column = accepted.unsqueeze(1)
        return State(
            torch.where(column, self.x, other.x),
            torch.where(accepted, self.value, other.value),
            torch.where(column, self.gradient, other.gradient),
        )
