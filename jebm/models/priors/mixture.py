"""A Gaussian mixture fitted to the aggregate posterior: a cheap baseline for energy-based priors."""

from __future__ import annotations

import torch

from jebm.config.types import Count, Counts
from jebm.models.backbones.base import LOG_2PI, Hierarchy, standard_normal_log_prob
from jebm.models.priors.base import Prior


class MixturePrior(Prior):
    """p(ε) = Σ_k π_k N(ε; m_k, Σ_k) with full covariances, fitted after training ("ex post") to draws of q(ε | x).

    Args:
        components: candidate numbers of components; the log density on the validation split decides.
        draws: draws of q(ε | x) for each training image.
    """

    normalised = True
    fit = "jebm.training.mixture:fit"

    def __init__(self, hierarchy: Hierarchy, *, components: Counts = [5, 10, 20, 40], draws: Count = 5):  # noqa: B006
        super().__init__(hierarchy)
        self.dimensions, self.components, self.draws = hierarchy.dimensions, components, draws
        for name in ("log_weights", "means", "cholesky"):
            self.register_buffer(name, None)

    def set(self, log_weights: torch.Tensor, means: torch.Tensor, cholesky: torch.Tensor) -> None:
        """Set log weights (k,), means (k, d), and lower Cholesky factors of the covariances (k, d, d)."""
        self.log_weights, self.means, self.cholesky = log_weights, means, cholesky

    def load_state_dict(self, state_dict, strict=True, assign=False):
        self.set(**{name: state_dict[name] for name in ("log_weights", "means", "cholesky")})
        return super().load_state_dict(state_dict, strict, assign)

    def mixture_log_prob(self, eps: torch.Tensor) -> torch.Tensor:
        """log Σ_k π_k N(ε; m_k, Σ_k), (batch,), nats."""
        difference = eps.unsqueeze(0) - self.means.unsqueeze(1)  # (k, batch, dimensions)
        white = torch.linalg.solve_triangular(self.cholesky, difference.mT, upper=False).mT
        log_det = self.cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
        terms = -0.5 * (white.square().sum(-1) + self.dimensions * LOG_2PI) - log_det
        return torch.logsumexp(self.log_weights.unsqueeze(1) + terms, dim=0)

    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        return self.mixture_log_prob(eps) - standard_normal_log_prob(eps)

    def sample(self, count: int, rng: torch.Generator) -> torch.Tensor:
        component = torch.multinomial(self.log_weights.exp(), count, replacement=True, generator=rng)
        noise = torch.randn(count, self.dimensions, 1, generator=rng, device=self.means.device)
        return self.means[component] + (self.cholesky[component] @ noise).squeeze(-1)
