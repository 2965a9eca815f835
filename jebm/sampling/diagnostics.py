"""Diagnostics of chains: split R-hat, autocorrelation time, effective sample size.

All functions take draws (steps, chains, dimensions) and compute in float64, for each dimension. References: Vehtari,
Gelman, Simpson, Carpenter and Bürkner, "Rank-normalization, folding, and localization: an improved R-hat", Bayesian
Analysis 16, 2021; Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7, 1992.
"""

import math

import torch

MIN_STEPS = 8
"""Minimum number of steps; with fewer, half a chain is too short for an autocorrelation."""


def split_chains(draws: torch.Tensor) -> torch.Tensor:
    """Split each chain into two halves: (steps // 2, 2 · chains, dimensions). A middle step is dropped.

    Raises:
        ValueError: fewer than 8 steps.
    """
    half = len(draws) // 2
    if len(draws) < MIN_STEPS:
        raise ValueError(f"{len(draws)} steps are too few for a diagnosis; at least {MIN_STEPS} are needed")
    return torch.cat([draws[:half], draws[-half:]], 1).double()


def normal_scores(draws: torch.Tensor) -> torch.Tensor:
    """The normal quantiles of the ranks of all draws over steps and chains; ties get their mean rank."""
    values = draws.flatten(0, 1).T.contiguous()  # (dimensions, draws)
    ordered = values.sort(1).values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    rank = (below + up_to + 1) / 2
    scores = torch.special.ndtri((rank.double() - 0.375) / (values.shape[1] + 0.25))
    return scores.T.unflatten(0, draws.shape[:2])


def plain_r_hat(draws: torch.Tensor) -> torch.Tensor:
    """R-hat without splitting and ranks, (dimensions,): √(var⁺ / W), with var⁺ = (n − 1)/n W + B/n.

    W is the variance within chains, B/n the variance of the chains' means.
    """
    steps = len(draws)
    within = draws.var(0).mean(0)
    between = draws.mean(0).var(0)  # B / n
    return torch.sqrt(((steps - 1) / steps * within + between) / within)


def r_hat(draws: torch.Tensor) -> torch.Tensor:
    """Rank-normalised split R-hat, (dimensions,): the maximum over the draws and the folded draws.

    It is 1 if the chains agree with each other and are stationary. Vehtari et al. require a value below 1.01.
    """
    split = split_chains(draws)
    middle = split.flatten(0, 1).cpu().median(0).values.to(split.device)  # PyTorch has no deterministic median on a GPU
    folded = (split - middle).abs()
    return torch.maximum(plain_r_hat(normal_scores(split)), plain_r_hat(normal_scores(folded)))


def autocovariance(draws: torch.Tensor) -> torch.Tensor:
    """Autocovariance of each chain at lags 0 … steps − 1, of the shape of the draws, with divisor ``steps``."""
    steps = len(draws)
    centred = draws.double() - draws.double().mean(0)
    spectrum = torch.fft.rfft(centred, n=2 * steps, dim=0)
    return torch.fft.irfft(spectrum.abs().square(), n=2 * steps, dim=0)[:steps] / steps


def autocorrelation(draws: torch.Tensor) -> torch.Tensor:
    """ρ_t over several chains, (steps, dimensions): 1 − (W − mean autocovariance_t) / var⁺ (Vehtari et al., eq. 10).

    It remains high if the chains disagree, so chains that are stuck in different places do not look independent.
    """
    steps, chains, _ = draws.shape
    covariance = autocovariance(draws).mean(1) * steps / (steps - 1)
    within = covariance[0]
    between = draws.double().mean(0).var(0) if chains > 1 else torch.zeros_like(within)
    total = (steps - 1) / steps * within + between
    return 1 - (within - covariance) / total


def autocorrelation_time(draws: torch.Tensor) -> torch.Tensor:
    """Integrated autocorrelation time τ = 1 + 2 Σ ρ_t, (dimensions,), in steps of the draws.

    The sum is truncated by Geyer's initial monotone sequence: for a reversible chain the sums of neighbouring pairs are
    positive and decreasing, so the sum stops at the first pair that is not positive, and each pair is bounded by the
    one before. As in Stan, the result is at least 1 / log₁₀ of the number of draws, because the sum may be negative for
    an antithetic chain.
    """
    rho = autocorrelation(split_chains(draws))
    pairs = rho[: len(rho) // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    positive = torch.cumprod((pairs > 0).to(pairs.dtype), 0)
    falling = torch.cummin(pairs, 0).values * positive
    return (2 * falling.sum(0) - 1).clamp(min=1 / math.log10(draws.shape[0] * draws.shape[1]))


def effective_sample_size(draws: torch.Tensor) -> torch.Tensor:
    """The number of independent draws with the same precision of the mean, (dimensions,): number of draws / τ."""
    return draws.shape[0] * draws.shape[1] / autocorrelation_time(draws)
