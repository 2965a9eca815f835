"""A Gaussian mixture fitted to the aggregate posterior: a cheap baseline for energy-based priors."""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from jebm.config.types import Count, Counts
from jebm.models.backbones.base import LOG_2PI, Hierarchy, standard_normal_log_prob
from jebm.models.priors.base import Prior


class MixturePrior(Prior):
    """p(ε) = Σ_k π_k N(ε; m_k, Σ_k) with full covariances, fitted after training ("ex post") to draws of q(ε | x).

    Args:
        components: candidate numbers of components; the log density on the validation split decides.
        draws: draws of q(ε | x) for each training image.
        images: largest number of training images that are used, chosen at random; all when left out. EM on many images
            takes longer than training energies; a proposal can do with fewer.
    """

    normalised = True
    exact = True
    fit = "jebm.training.mixture:fit"

    def __init__(
        self,
        hierarchy: Hierarchy,
        *,
        components: Counts = [5, 10, 20, 40],  # noqa: B006
        draws: Count = 5,
        images: Count | None = None,
    ):
        super().__init__(hierarchy)
        self.dimensions, self.components = hierarchy.dimensions, components
        self.draws, self.images = draws, images
        for name in ("log_weights", "means", "cholesky"):
            self.register_buffer(name, None)
        for name in ("whitening", "shifts", "constants"):  # they follow from the others
            self.register_buffer(name, None, persistent=False)
        normal = torch.eye(self.dimensions).unsqueeze(0)  # until it is fitted
        self.set(torch.zeros(1), torch.zeros(1, self.dimensions), normal)

    def set(self, log_weights: torch.Tensor, means: torch.Tensor, cholesky: torch.Tensor) -> None:
        """Set log weights (k,), means (k, d), and lower Cholesky factors of the covariances (k, d, d)."""
        self.log_weights, self.means, self.cholesky = log_weights, means, cholesky
        factors = torch.linalg.inv(cholesky.double())
        shifts = (factors @ means.double().unsqueeze(-1)).flatten()
        constants = log_weights.double() + factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        self.whitening, self.shifts = factors.flatten(0, 1).to(means), shifts.to(means)
        self.constants = (constants - 0.5 * self.dimensions * LOG_2PI).to(means)

    def _load_from_state_dict(self, state_dict, prefix, *arguments):
        # The number of components is known only from the weights.
        self.set(*(state_dict[f"{prefix}{name}"].clone() for name in ("log_weights", "means", "cholesky")))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def mixture_log_prob(self, eps: torch.Tensor) -> torch.Tensor:
        """log Σ_k π_k N(ε; m_k, Σ_k), (batch,), nats."""
        # One product with the inverse factors of all components is several times as fast as triangular solves.
        white = linear(eps, self.whitening, -self.shifts).unflatten(1, (len(self.means), self.dimensions))
        return torch.logsumexp(self.constants - 0.5 * white.square().sum(-1), dim=1)

    @property
    def proposal(self) -> Prior:
        return self

    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        return self.mixture_log_prob(eps) - standard_normal_log_prob(eps)

    def sample(self, count: int, rng: torch.Generator) -> torch.Tensor:
        component = torch.multinomial(self.log_weights.exp(), count, replacement=True, generator=rng)
        noise = torch.randn(count, self.dimensions, generator=rng, device=self.means.device)
        eps = torch.empty_like(noise)
        # By component, because a Cholesky factor per draw would need count · d² numbers.
        for k, (mean, cholesky) in enumerate(zip(self.means, self.cholesky, strict=True)):
            own = component == k
            eps[own] = mean + noise[own] @ cholesky.mT
        return eps
