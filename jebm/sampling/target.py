"""What a chain samples: an unnormalised log density and its gradient, by one call of autograd or in closed form."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from jebm.models.backbones.base import standard_normal_log_prob


@dataclass(frozen=True)
class Target:
    """log p(x) = tilt(x) + base(x) + const on flat x (batch, dimensions).

    Attributes:
        tilt: the part that needs autograd, (batch,), nats.
        gaussian_base: whether the base is N(0, I) (whitened space) or flat (the tilt is the whole log density).
        closed_form: the tilt and its gradient without autograd, where they are known; equal up to rounding. A flag says
            whether the tilt is wanted.
        lean: do no more than the chain's next states need: the end of an unadjusted chain is not evaluated.
    """

    tilt: Callable[[torch.Tensor], torch.Tensor]
    gaussian_base: bool = True
    closed_form: Callable[[torch.Tensor, bool], tuple[torch.Tensor | None, torch.Tensor]] | None = None
    lean: bool = False

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
        """log p(x) up to its constant, (batch,), and its gradient, like x."""
        tilt, gradient = self.tilt_and_gradient(x)
        if not self.gaussian_base:
            return tilt, gradient
        return tilt + standard_normal_log_prob(x), gradient - x

    def tilt_gradient(self, x: torch.Tensor) -> torch.Tensor:
        """The gradient of the tilt alone, like x."""
        if self.closed_form is None:
            return self.tilt_and_gradient(x)[1]
        with torch.no_grad():
            return self.closed_form(x, False)[1]

    def gradient(self, x: torch.Tensor) -> torch.Tensor:
        """The gradient of log p alone, like x."""
        gradient = self.tilt_gradient(x)
        return gradient - x if self.gaussian_base else gradient


class State:
    """A population of chains at one step, with what the kernel has already computed there."""

    __slots__ = ("gradient", "value", "x")

    def __init__(self, x: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor):
        self.x, self.value, self.gradient = x, value, gradient

    def where(self, accepted: torch.Tensor, other: "State") -> "State":
        """This state in the chains where ``accepted`` (batch,) is true, the other one elsewhere."""
        column = accepted.unsqueeze(1)
        return State(
            torch.where(column, self.x, other.x),
            torch.where(accepted, self.value, other.value),
            torch.where(column, self.gradient, other.gradient),
        )
