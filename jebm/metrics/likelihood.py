"""Importance weights of draws from the inference network, and the resulting bounds on log p(x)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from jebm.data.batches import Pixels, batches
from jebm.models.backbones.base import Hierarchy, flatten, split, standard_normal_log_prob
from jebm.models.priors.base import Prior


class LogWeights(NamedTuple):
    """Log weights of each image and each draw from q(ε | x), (images, draws), nats."""

    gaussian: torch.Tensor
    """log p(x | z) + log N(ε; 0, I) − log q(ε | x): the log weight under the Gaussian hierarchy."""
    tilt: torch.Tensor
    """tilt(ε); the log weight under the EBM prior is gaussian + tilt − log Z."""
    redrawn: torch.Tensor
    """(layers − 1, images, draws): the Gaussian log weight if the lowest k = 1, 2, … layers are drawn from the prior
    instead of q: log p(x | z) + Σ_{i>k} [log N(ε_i; 0, I) − log q(ε_i | ε_{>i}, x)]."""


@torch.no_grad()
def log_weights(
    hierarchy: Hierarchy,
    prior: Prior,
    x: Pixels | torch.Tensor,
    draws: int,
    rng: torch.Generator,
    redraw: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> LogWeights:
    """Draw ``draws`` posterior samples per image (images, *image_shape), and compute their log weights.

    To bound memory, images are processed in batches of the size that the hierarchy gives; the random numbers depend on
    this size.
    """
    rows, parts = hierarchy.max_batch_size(), []
    count = math.ceil(len(x) / rows)
    for batch in batches(x, rows):
        tell = _progress_of(progress, len(parts), count)
        parts.append(_log_weights(hierarchy, prior, batch.to(rng.device), draws, rng, redraw, tell))
    gaussian, tilt, redrawn = zip(*parts, strict=True)
    return LogWeights(torch.cat(gaussian), torch.cat(tilt), torch.cat(redrawn, 1))


def _progress_of(progress: Callable, batch: int, batches: int) -> Callable[[str, int, int], None]:
    """Progress within one of several batches."""
    return lambda what, done, total: progress(what, batch * total + done, batches * total)


def _log_weights(hierarchy, prior, x, draws, rng, redraw, progress) -> LogWeights:
    found = []
    for draw in range(draws):
        found.append(_weigh(hierarchy, prior, x, rng, redraw))
        progress("posterior draws", draw + 1, draws)
    return LogWeights(*(torch.stack(kind, -1) for kind in zip(*found, strict=True)))


def _weigh(hierarchy, prior, x, rng, redraw):
    """The three log weights for one draw per image; images are the last dimension."""
    posterior = hierarchy.infer(x, rng)
    eps = flatten(posterior.eps)
    log_p = torch.stack([standard_normal_log_prob(layer) for layer in posterior.eps], 1)
    log_px = hierarchy.decode(posterior.top).log_prob(x)
    ratio = log_p - posterior.log_q
    tilt = prior.tilt(eps)
    redrawn = _redrawn(hierarchy, eps, ratio, x, rng) if redraw else x.new_zeros(0, len(x))
    return log_px + ratio.sum(1), tilt, redrawn


def _redrawn(hierarchy, eps, ratio, x, rng):
    rows = []
    for k in range(1, hierarchy.layers):
        noise = torch.randn(eps.shape, generator=rng, device=eps.device)
        low = sum(hierarchy.layer_dims[:k])
        mixed = split(torch.cat([noise[:, :low], eps[:, low:]], 1), hierarchy.latent_shapes)
        rows.append(hierarchy.decode(hierarchy.top_down(mixed)).log_prob(x) + ratio[:, k:].sum(1))
    return torch.stack(rows) if rows else x.new_zeros(0, len(x))


def importance_weighted(log_w: torch.Tensor) -> torch.Tensor:
    """log (1/K) Σ_k w_k over the last dimension, nats (Burda et al., 2016); its expectation is at most log p(x)."""
    return torch.logsumexp(log_w.double(), -1) - math.log(log_w.shape[-1])


def bits_per_dimension(log_p: float, dimensions: int, width: float) -> float:
    """−[log p + D log width] / (D log 2): a log density in nats as bits per dimension, for D values in cells of
    ``width``; width 1 for a log probability mass.

    For a density this approximates the probability of a cell by its midpoint. It is no bound on the likelihood of a
    dequantised or discretised model, and the outermost cells are counted whole.
    """
    return -(log_p / dimensions + math.log(width)) / math.log(2)
