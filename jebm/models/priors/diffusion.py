"""A diffusion model of all layers together: a perceptron that removes noise from flat ε."""

from __future__ import annotations

import math

import torch

from jebm.config.types import Count
from jebm.models.backbones.base import Hierarchy, standard_normal_log_prob
from jebm.models.nets import initialise, mlp
from jebm.models.priors.base import Prior

FREQUENCIES = 8
"""Number of frequencies of the angle that the network sees."""


class DiffusionPrior(Prior):
    """A diffusion model (Ho et al., 2020) of ε, with the velocity v as the network's output (Salimans and Ho, 2022).

    Noise is added along an arc: x(θ) = cos θ · ε + sin θ · ξ with ξ from N(0, I), from the data at θ = 0 to N(0, I)
    exactly at θ = π/2. The network v̂(x, θ) learns E[v | x(θ)] with v = dx/dθ = cos θ · ξ − sin θ · ε. It is 0 for data
    from N(0, I), where training starts. dx/dθ = v̂(x, θ) is the probability-flow ODE (Song et al., 2021), which maps
    N(0, I) to the density of this prior: log p(ε) = log N(x(π/2); 0, I) + ∫ div v̂ dθ. The divergence is exact; the
    integral is computed by Runge–Kutta steps, whose error the evaluation ``ode-error`` measures.

    Draws are made by the sampler ``denoising``. With its method ``ode`` they have this density, up to the error of the
    steps; with ``ancestral`` they have another one, near it.

    Args:
        hidden: units of each of the two hidden layers.
        ode_steps: number of Runge–Kutta steps of the fourth order for the density; each costs four values of v̂.
    """

    normalised = True
    denoising = True
    """It is sampled by removing noise step by step, by the sampler ``denoising``."""
    fit = "jebm.training.diffusion:fit"
    by_gradient = True

    def __init__(self, hierarchy: Hierarchy, *, hidden: Count = 128, ode_steps: Count = 20):
        super().__init__(hierarchy)
        self.dimensions, self.ode_steps = hierarchy.dimensions, ode_steps
        self.net = mlp(self.dimensions + 2 * FREQUENCIES, self.dimensions, hidden, 2)

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """Draw all weights, and set the output layer to zero, so that training starts at N(0, I)."""
        initialise(self.net, rng)
        self.net[-1].weight.zero_()
        self.net[-1].bias.zero_()

    def velocity(self, x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        """v̂(x, θ) of x (batch, dimensions) at angles θ (batch, 1)."""
        return self.net(self._inputs(x, angle))

    def velocity_and_divergence(self, x: torch.Tensor, angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """v̂ and its divergence Σ_i ∂v̂_i/∂x_i, (batch,).

        With slopes s_1 and s_2 the trace of W_3 diag(s_2) W_2 diag(s_1) W_1 is s_2ᵀ [W_2 ∘ (W_1 W_3)ᵀ] s_1, so it is
        exact and costs about as much as v̂ itself.
        """
        first, _, second, _, last = self.net
        before_1 = first(self._inputs(x, angle))
        hidden_1, slope_1 = _silu_and_slope(before_1)
        hidden_2, slope_2 = _silu_and_slope(second(hidden_1))
        coupling = second.weight * (first.weight[:, : self.dimensions] @ last.weight).mT
        return last(hidden_2), ((slope_2 @ coupling) * slope_1).sum(1)

    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        return self.tilt_in_steps(eps, self.ode_steps)

    def tilt_in_steps(self, eps: torch.Tensor, steps: int) -> torch.Tensor:
        """:meth:`tilt` with another number of Runge–Kutta steps from θ = 0 to π/2."""
        x, integral, width = eps, eps.new_zeros(len(eps)), math.pi / 2 / steps
        for step in range(steps):
            slopes: list[tuple[torch.Tensor, torch.Tensor]] = []
            for share in (0.0, 0.5, 0.5, 1.0):
                ahead = x + share * width * slopes[-1][0] if slopes else x
                slopes.append(self.velocity_and_divergence(ahead, eps.new_full((len(x), 1), (step + share) * width)))
            (v_1, d_1), (v_2, d_2), (v_3, d_3), (v_4, d_4) = slopes
            x = x + width / 6 * (v_1 + 2 * v_2 + 2 * v_3 + v_4)
            integral = integral + width / 6 * (d_1 + 2 * d_2 + 2 * d_3 + d_4)
        return standard_normal_log_prob(x) + integral - standard_normal_log_prob(eps)

    def _inputs(self, x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        phases = angle * torch.arange(1, FREQUENCIES + 1, device=x.device, dtype=x.dtype)
        return torch.cat([x, phases.cos(), phases.sin()], 1)


def _silu_and_slope(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """SiLU(x) = x σ(x), and its derivative."""
    sigmoid = torch.sigmoid(x)
    value = x * sigmoid
    return value, sigmoid + value * (1 - sigmoid)
