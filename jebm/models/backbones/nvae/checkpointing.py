"""Activation checkpointing: cells store no activations for the backward pass, which computes them again."""

from collections.abc import Iterable
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from jebm.models.backbones.nvae.cells import Cell


def apply_cells(cells: Iterable[Cell], h: torch.Tensor, checkpointing: bool) -> torch.Tensor:
    """Apply cells to h, (batch, channels, size, size), one after the other; with checkpointing gradients are equal."""
    if not (checkpointing and torch.is_grad_enabled()):
        for cell in cells:
            h = cell(h)
        return h
    for cell in cells:
        h = checkpoint(cell, h, use_reentrant=False, preserve_rng_state=False, context_fn=partial(_contexts, cell))
    return h


def _contexts(cell: Cell):
    """Contexts of the first pass through a cell and of its recomputation, which must not update running statistics
    again."""
    return nullcontext(), _frozen_statistics(cell)


@contextmanager
def _frozen_statistics(module: nn.Module):
    """Within this context, batch norm does not update its running statistics, but still reads them."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
