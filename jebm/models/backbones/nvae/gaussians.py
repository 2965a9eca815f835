"""The Gaussians of priors, posteriors and the Gaussian head, with softly clamped parameters."""

from typing import NamedTuple

import torch

from jebm.models.backbones.base import LOG_2PI

LIMIT = 5.0
FLOOR = 0.01


def soft_clamp(raw: torch.Tensor) -> torch.Tensor:
    """5 · tanh(raw / 5): values are in (−5, 5), and near 0 the function is the identity."""
    return LIMIT * torch.tanh(raw / LIMIT)


class Normal(NamedTuple):
    """N(mean, sigma²), elementwise."""

    mean: torch.Tensor
    sigma: torch.Tensor

    @classmethod
    def from_raw(cls, mean: torch.Tensor, log_sigma: torch.Tensor) -> "Normal":
        """N(c(mean), σ²) with σ = exp(c(log_sigma)) + 0.01 and the soft clamp c; log_sigma = 0 gives σ = 1.01.

        Parameters of lower precision are converted to float32 first, because their exponentials would overflow.
        """
        mean, log_sigma = _precise(mean), _precise(log_sigma)
        return cls(soft_clamp(mean), torch.exp(soft_clamp(log_sigma)) + FLOOR)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log density of each element, nats."""
        return -0.5 * ((value - self.mean) / self.sigma).square() - torch.log(self.sigma) - 0.5 * LOG_2PI

    def transform(self, eps: torch.Tensor) -> torch.Tensor:
        """mean + sigma · eps."""
        return self.mean + self.sigma * eps

    def whiten(self, value: torch.Tensor) -> torch.Tensor:
        """(value − mean) / sigma."""
        return (value - self.mean) / self.sigma

    def kl(self, other: "Normal") -> torch.Tensor:
        """KL(self ‖ other) of each element, nats."""
        shift, ratio = (self.mean - other.mean) / other.sigma, self.sigma / other.sigma
        return 0.5 * (shift.square() + ratio.square()) - 0.5 - torch.log(ratio)


def _precise(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
