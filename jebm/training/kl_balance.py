"""KL warm-up and balancing between the groups of a deep hierarchy (Vahdat and Kautz, 2020, section 3.2 and appendix A).

While the KL is not yet fully weighed, busy groups pay more for it and idle ones less, so that none is switched off
before it has learned anything. Coarse scales, whose groups are few and small, pay less.
"""

from collections.abc import Sequence

import torch

OFFSET = 0.01


def kl_weight(step: int, steps: int, rise: float = 0.3, hold: float = 1e-4, least: float = 1e-4) -> float:
    """The weight of the KL at a step: ``least`` for a fraction ``hold`` of all steps, then up to 1 within ``rise``."""
    return max(min((step - hold * steps) / (rise * steps), 1.0), least)


def scale_factors(groups: Sequence[int]) -> torch.Tensor:
    """α of each layer, bottom first, (layers,), the smallest 1: 4^i / number of groups at its scale.

    Args:
        groups: latent layers at each scale, finest first; i counts from the coarsest scale, where it is 0.
    """
    scales = len(groups)
    factors = [4.0 ** (scales - 1 - scale) / count for scale, count in enumerate(groups) for _ in range(count)]
    return torch.tensor(factors, dtype=torch.float64) / min(factors)


def balance(kl: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """γ of each layer, (layers,), mean 1, detached: in proportion to (mean |KL| + 0.01) / α.

    Args:
        kl: (batch, layers), nats; estimates from single draws may be negative.
        factors: α, see :func:`scale_factors`.
    """
    gamma = (kl.detach().abs().mean(0) + OFFSET) / factors.to(kl)
    return gamma / gamma.mean()


def weighted_kl(kl: torch.Tensor, factors: torch.Tensor, weight: float) -> torch.Tensor:
    """The KL term of the loss, (batch,), nats: weight · Σ γ_i KL_i, and the plain sum once the weight is 1."""
    return weight * (kl * balance(kl, factors)).sum(1) if weight < 1 else kl.sum(1)
