"""Batch norm under activation checkpointing, where a cell is run a second time to compute its gradient."""

from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import nn


def checkpoint_contexts(cell: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Contexts of the forward pass and of the recomputation: only the first one updates batch-norm statistics."""
    return nullcontext(), _fixed_statistics(cell)


@contextmanager
def _fixed_statistics(module: nn.Module):
    """A context in which batch norm, in training mode, does not update its running statistics."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
