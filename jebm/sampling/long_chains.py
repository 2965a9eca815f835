"""Long adjusted chains on many targets at once, preconditioned by each target's own covariance.

A posterior p(ε | x) is narrow in some directions and wide in others, so a plain Langevin step fits none of them. In
the coordinates u of ε = m + L u, with m and L Lᵀ the mean and covariance of earlier draws, it is close to N(0, I), and
one step size near 1 serves all targets. The map is fixed while the draws that count are made, so they are exact.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from jebm.sampling.langevin import Langevin
from jebm.sampling.target import Target


class AffineMap(NamedTuple):
    """ε = mean + factor u for each of the targets."""

    mean: torch.Tensor
    """(targets, dimensions)."""
    factor: torch.Tensor
    """(targets, dimensions, dimensions), lower triangular with a positive diagonal."""

    def repeat(self, chains: int) -> "AffineMap":
        """The same map for several chains on each target, side by side."""
        return AffineMap(*(part.repeat_interleave(chains, 0) for part in self))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """u (targets, dimensions) → ε."""
        return self.mean + (self.factor @ u.unsqueeze(-1)).squeeze(-1)

    def inverse(self, eps: torch.Tensor) -> torch.Tensor:
        """ε → u."""
        return torch.linalg.solve_triangular(self.factor, (eps - self.mean).unsqueeze(-1), upper=False).squeeze(-1)


class LongChainDraws(NamedTuple):
    eps: torch.Tensor
    """(steps, targets, chains, dimensions)."""
    log_prob: torch.Tensor
    """(steps, targets, chains): the target's log density of each, nats."""
    acceptance: float


def fit_affine_map(eps: torch.Tensor, floor: float = 1e-4) -> AffineMap:
    """Mean and Cholesky factor of the covariance of draws (targets, draws, dimensions).

    ``floor`` is added to each variance, in units of the prior's, so that few draws still make a covariance.
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
    """Go on from the end of ``history`` (steps, targets, chains, dimensions), whose draws give the first map.

    Args:
        target: in ε, its rows being all chains of the first target, then those of the second …
        adaptation: steps of the rounds after each of which the map is fitted anew; their draws do not count.
        steps: steps of the draws that count.
        step_size: of the Metropolis-adjusted Langevin step in u, a standard deviation.
    """
    for count in adaptation:
        history = _preconditioned(target, history, count, step_size, rng).eps
    return _preconditioned(target, history, steps, step_size, rng)


def _preconditioned(
    target: Target, history: torch.Tensor, steps: int, step_size: float, rng: torch.Generator
) -> LongChainDraws:
    shape, kernel = history.shape[1:], Langevin(step_size=step_size, adjusted=True)
    affine = fit_affine_map(pool_chains(history)).repeat(shape[1])
    in_u = Target(lambda u: target.log_prob(affine.forward(u)), gaussian_base=False)  # the map's Jacobian is constant
    state = kernel.evaluate(in_u, affine.inverse(history[-1].flatten(0, 1)))
    draws, values, accepted = [], [], 0.0
    for _ in range(steps):
        state, moved = kernel.step(in_u, state, rng)
        draws.append(affine.forward(state.x).reshape(shape))
        values.append(state.value.reshape(shape[:2]))
        accepted += float(moved.float().mean())
    return LongChainDraws(torch.stack(draws), torch.stack(values), accepted / steps)
