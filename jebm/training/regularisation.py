"""Regularisation of the Lipschitz constants of a deep hierarchy in stage 1 (Vahdat and Kautz, 2020, section 3.2).

Without it the KL of such a hierarchy is unstable. Both terms are sums over layers, not means, and have a common weight
λ in the loss.
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

from jebm.config.training import TrainBackbone

VECTOR_EPSILON = 1e-3
FIRST_ITERATIONS, ITERATIONS = 40, 4


def filters(module: nn.Module) -> Iterable[torch.Tensor]:
    """The effective filters of all convolutions of a module as matrices, (outputs, inputs · kernel²).

    Convolutions are the layers that have ``effective_weight()``, their normalised and masked filters.
    """
    for layer in module.modules():
        if hasattr(layer, "effective_weight"):
            yield layer.effective_weight().flatten(1)


def spectral_norms(module: nn.Module) -> torch.Tensor:
    """Σ over convolutions of the largest singular value of their filters, computed exactly; too slow for training."""
    return torch.stack([torch.linalg.matrix_norm(matrix, ord=2) for matrix in filters(module)]).sum()


def batch_norm_gains(module: nn.Module) -> torch.Tensor:
    """Σ over batch-norm layers of the largest |gain|."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    return torch.stack([layer.weight.abs().max() for layer in norms]).sum()


class SpectralPenalty:
    """:func:`spectral_norms` by power iteration on all matrices of one shape at once. It is a lower bound that becomes
    tight after some steps.

    A call costs a few matrix-vector products. The vectors belong to the training state (:meth:`state_dict`).

    Args:
        module: the module whose convolutions are penalised.
        rng: draws the initial vectors.
    """

    def __init__(self, module: nn.Module, rng: torch.Generator):
        self.module = module
        self.vectors: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for shape, matrices in self._by_shape().items():
            count, (rows, columns) = len(matrices), shape
            like = matrices[0]
            u = torch.randn(count, rows, 1, generator=rng, device=rng.device).to(like)
            v = torch.randn(count, columns, 1, generator=rng, device=rng.device).to(like)
            self.vectors[f"{rows}×{columns}"] = _unit(u), _unit(v)
        self.fresh = True

    def _by_shape(self) -> dict[tuple[int, int], list[torch.Tensor]]:
        grouped = defaultdict(list)
        for matrix in filters(self.module):
            grouped[tuple(matrix.shape)].append(matrix)
        return grouped

    def __call__(self) -> torch.Tensor:
        """The sum, differentiable in the filters. It also advances the vectors by some power iterations."""
        total = 0.0
        for (rows, columns), matrices in self._by_shape().items():
            stacked, key = torch.stack(matrices), f"{rows}×{columns}"
            u, v = self._iterate(stacked.detach(), *self.vectors[key])
            self.vectors[key] = u, v
            total = total + (u.mT @ stacked @ v).sum()
        self.fresh = False
        return total

    @torch.no_grad()
    def _iterate(self, matrices: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for _ in range(FIRST_ITERATIONS if self.fresh else ITERATIONS):
            v = _unit(matrices.mT @ u)
            u = _unit(matrices @ v)
        return u, v

    def state_dict(self) -> dict:
        """The vectors, and whether they are still the initial ones."""
        return {"vectors": dict(self.vectors), "fresh": self.fresh}

    def load_state_dict(self, state: dict) -> None:
        self.vectors, self.fresh = dict(state["vectors"]), state["fresh"]


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    """Columns (count, n, 1) divided by their norms, or by 0.001 if that is larger."""
    return vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp(min=VECTOR_EPSILON)


class Penalty:
    """The weighted sum of both penalties.

    Args:
        module: the module whose convolutions and batch norms are penalised.
        settings: ``spectral_penalty``, ``batch_norm_penalty`` and ``initial_penalty``.
        rng: draws the initial vectors of the power iteration; not used without a spectral penalty.
    """

    def __init__(self, module: nn.Module, settings: TrainBackbone, rng: torch.Generator):
        self.module, self.settings = module, settings
        self.spectral = SpectralPenalty(module, rng) if settings.spectral_penalty else None

    def state_dict(self) -> dict:
        """The state of the power iteration, empty without a spectral penalty."""
        return self.spectral.state_dict() if self.spectral else {}

    def load_state_dict(self, state: dict) -> None:
        if self.spectral:
            self.spectral.load_state_dict(state)

    def __call__(self, kl_weight: float) -> tuple[torch.Tensor | float, dict[str, torch.Tensor]]:
        """The weighted sum of both terms (0 if both are off), and each of them without its weight for the history."""
        total, scalars, first = 0.0, {}, self.settings.initial_penalty or None
        if self.spectral:
            scalars["spectral_norms"] = norms = self.spectral()
            total = total + penalty_weight(kl_weight, self.settings.spectral_penalty, first) * norms
        if self.settings.batch_norm_penalty:
            scalars["batch_norm_gains"] = gains = batch_norm_gains(self.module)
            total = total + penalty_weight(kl_weight, self.settings.batch_norm_penalty, first) * gains
        return total, scalars


def penalty_weight(kl_weight: float, weight: float, first: float | None = None) -> float:
    """λ at a step: constant, or, if its initial value ``first`` is given, geometrically interpolated from there to
    ``weight`` while the KL weight grows from 0 to 1."""
    if first is None:
        return weight
    return math.exp((1 - kl_weight) * math.log(first) + kl_weight * math.log(weight))
