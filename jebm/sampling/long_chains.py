"""Long Metropolis-adjusted chains on many targets in parallel, preconditioned by the covariance of each target.

A posterior p(ε | x) is narrow in some directions and wide in others, so no single Langevin step size suits all of them.
In coordinates u with ε = m + L u, where m and L Lᵀ are the mean and covariance of earlier draws, it is close to
N(0, I), and a step size near 1 suits all targets. The map is fixed while the final draws are made, so it does not bias
them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from jebm.sampling.langevin import Langevin
from jebm.sampling.target import Target


class AffineMap(NamedTuple):
    """The map ε = mean + factor u for each target."""

    mean: torch.Tensor
    """(targets, dimensions)."""
    factor: torch.Tensor
    """(targets, dimensions, dimensions), lower triangular with a positive diagonal."""

    def repeat(self, chains: int) -> "AffineMap":
        """The map for several chains per target; the chains of a target are adjacent rows."""
        return AffineMap(*(part.repeat_interleave(chains, 0) for part in self))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """u → ε, (targets, dimensions)."""
        return self.mean + (self.factor @ u.unsqueeze(-1)).squeeze(-1)

    def inverse(self, eps: torch.Tensor) -> torch.Tensor:
        """ε → u, (targets, dimensions)."""
        return torch.linalg.solve_triangular(self.factor, (eps - self.mean).unsqueeze(-1), upper=False).squeeze(-1)


class LongChainDraws(NamedTuple):
    """The final draws of long chains."""

    eps: torch.Tensor
    """(steps, targets, chains, dimensions)."""
    log_prob: torch.Tensor
    """(steps, targets, chains): log density of each draw, nats."""
    acceptance: float


def fit_affine_map(eps: torch.Tensor, floor: float = 1e-4) -> AffineMap:
    """The map given by the mean and the Cholesky factor of the covariance of draws (targets, draws, dimensions).

    ``floor`` is added to each variance (those of N(0, I) are 1), so that the covariance of few draws is not singular.
    """
    mean = eps.mean(1)
    centred = eps - mean.unsqueeze(1)
    cov = centred.mT @ centred / eps.shape[1] + floor * torch.eye(eps.shape[2], device=eps.device)
    return AffineMap(mean, torch.linalg.cholesky(cov))


def pool_chains(eps: torch.Tensor) -> torch.Tensor:
    """(steps, targets, chains, dimensions) → (targets, steps · chains, dimensions)."""
    return eps.permute(1, 0, 2, 3).flatten(1, 2)


def run_long_chains(
    target: Target,
    history: torch.Tensor,
    adaptation: Sequence[int],
    steps: int,
    step_size: float,
    rng: torch.Generator,
) -> LongChainDraws:
    """Continue chains from the end of ``history`` (steps, targets, chains, dimensions), whose draws give the first map.

    Args:
        target: density of ε for all chains as rows, (targets · chains, dimensions), the chains of a target adjacent.
        adaptation: number of steps of each adaptation round. After each round the map is fitted to its draws, which are
            then discarded.
        steps: number of steps of the final draws.
        step_size: step size of Metropolis-adjusted Langevin dynamics in u, a standard deviation.
    """
    for count in adaptation:
        history = _preconditioned(target, history, count, step_size, rng).eps
    return _preconditioned(target, history, steps, step_size, rng)


def _preconditioned(
    target: Target, history: torch.Tensor, steps: int, step_size: float, rng: torch.Generator
) -> LongChainDraws:
    shape, kernel = history.shape[1:], Langevin(step_size=step_size, adjusted=True)
    affine = fit_affine_map(pool_chains(history)).repeat(shape[1])
    target_of_u = Target(lambda u: target.log_prob(affine.forward(u)), gaussian_base=False)  # the Jacobian is constant
    state = kernel.evaluate(target_of_u, affine.inverse(history[-1].flatten(0, 1)))
    draws, values, accepted = [], [], 0.0
    for _ in range(steps):
        state, accepted_now = kernel.step(target_of_u, state, rng)
        draws.append(affine.forward(state.x).reshape(shape))
        values.append(state.value.reshape(shape[:2]))
        accepted += float(accepted_now.float().mean())
    return LongChainDraws(torch.stack(draws), torch.stack(values), accepted / steps)
