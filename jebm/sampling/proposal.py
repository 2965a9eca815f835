"""Defensive proposals: mixtures of a normalised density and N(0, I), for importance sampling and independent moves.

Importance weights over a fitted density alone are unbounded where it is narrower than the target. With a share α of
N(0, I), the weight of a tilt of N(0, I) is at most 1/α times the weight over N(0, I) alone (Hesterberg, "Weighted
average importance sampling and defensive mixture distributions", 1995).
"""

import math

import torch

from jebm.models.priors.base import Prior

SHARE = 0.2
"""Share of N(0, I)."""


class Proposal:
    """q(ε) = (1 − share) p_0(ε) + share N(ε; 0, I), with p_0 the :attr:`~jebm.models.priors.base.Prior.proposal` of a
    prior.

    Args:
        prior: the prior whose proposal p_0 is; N(0, I) if it has none.
        dimensions: number of latent dimensions.
        share: share of N(0, I); 1 is N(0, I) alone.
    """

    def __init__(self, prior: Prior, dimensions: int, share: float = SHARE):
        self.source = prior.proposal if share < 1 else None
        self.dimensions, self.share = dimensions, share

    def sample(self, count: int, rng: torch.Generator) -> torch.Tensor:
        """Independent draws, (count, dimensions)."""
        normal = torch.randn(count, self.dimensions, generator=rng, device=rng.device)
        if self.source is None:
            return normal
        defensive = torch.rand(count, 1, generator=rng, device=rng.device) < self.share
        return torch.where(defensive, normal, self.source.sample(count, rng))

    def log_ratio(self, eps: torch.Tensor) -> torch.Tensor:
        """log q(ε) − log N(ε; 0, I) of flat ε, (batch,), nats."""
        return eps.new_zeros(len(eps)) if self.source is None else self._defend(self.source.tilt(eps))

    def base_ratio(self, base: Prior, eps: torch.Tensor) -> torch.Tensor:
        """log p_0(ε) − log q(ε) for a normalised density p_0, (batch,), nats."""
        tilt = base.tilt(eps)  # a mixture's is costly, and often the proposal's, too
        return tilt - (self._defend(tilt) if base is self.source else self.log_ratio(eps))

    def _defend(self, tilt: torch.Tensor) -> torch.Tensor:
        tilt = tilt + math.log1p(-self.share)
        return torch.logaddexp(tilt, torch.full_like(tilt, math.log(self.share)))
