"""Ranks: the processes that run one job together, each on a device of its own, by torch.distributed.

Every rank runs the same code on its shard of each batch with random numbers of its own. Gradients are averaged, so that
all ranks hold the same weights at every step. A job of one process is rank 0 of 1, for which every operation here is
the identity and costs nothing. DistributedDataParallel wraps the ``forward`` of one module, and does not fit losses
that call parts of two modules. Which rank this process is, torch.distributed knows (``ranks``).
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from jebm.errors import JebmError, LostRankError
from jebm.runtime.random import derive_seed

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others at one point before it gives up."""
BUCKET = 2**24
"""Numbers that are reduced at once: more would take more memory, and be no faster."""


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those of its job."""

    rank: int = 0
    size: int = 1

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the rank that writes files."""
        return self.rank == 0

    def shard_batch(self, batch: torch.Tensor) -> torch.Tensor:
        """This rank's rows of a batch that all ranks have. Shards are equal, so that means of means are means.

        Raises:
            JebmError: the rows can't be shared out equally.
        """
        if len(batch) % self.size:
            raise JebmError(
                f"params.yaml: compute.devices: a batch of {len(batch)} examples can't be shared equally by "
                f"{self.size} devices"
            )
        return batch.chunk(self.size)[self.rank]

    def shard_range(self, count: int) -> range:
        """This rank's part of ``count`` things in a row; the lengths of parts differ by one at most.

        Raises:
            JebmError: there are fewer things than ranks.
        """
        if count < self.size:
            raise JebmError(f"params.yaml: compute.devices: {count} images are too few for {self.size} devices")
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def seed_rng(self, rng: torch.Generator) -> torch.Generator:
        """Reseed a generator that is identical on all ranks, so that each rank draws other numbers; returns it."""
        if self.size > 1:
            rng.manual_seed(derive_seed(rng.initial_seed(), "rank", self.rank))
        return rng

    def fork_rng(self, rng: torch.Generator) -> torch.Generator:
        """Reseed a generator as ``seed_rng`` does; returns a copy of what it was, which is identical on all ranks.

        One process has one generator for everything, and gets it back.
        """
        if self.size == 1:
            return rng
        common = torch.Generator(rng.device)
        common.set_state(rng.get_state())
        self.seed_rng(rng)
        return common

    def average(self, tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """All-reduce tensors to their mean, in place, and return them; all ranks get the same bits."""
        tensors = list(tensors)
        for bucket in _buckets(tensors) if self.size > 1 else ():
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            with _collective():
                distributed.all_reduce(flat)
            flat /= self.size
            for tensor, mean in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(mean.view_as(tensor))
        return tensors

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """All-reduce gradients to their mean, which is the gradient of the mean loss over all shards."""
        self.average(p.grad for p in parameters if p.grad is not None)

    def mean(self, scalars: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """All-reduce named scalars to their means; one that is not finite on some rank is not finite on any."""
        if self.size == 1:
            return scalars
        values = torch.stack([value.detach().double() for value in scalars.values()])
        self.average([values])
        return dict(zip(scalars, values.unbind(), strict=True))

    def max(self, *numbers: float) -> list[float]:
        """All-reduce numbers to their maxima: how the ranks agree on what to do next."""
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        with _collective():
            distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return values.tolist()

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all ranks, in order, on every rank; their shapes must agree."""
        if self.size == 1:
            return [tensor]
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with _collective():
            distributed.all_gather(parts, tensor)
        return parts

    def gather_object(self, thing: Any) -> list[Any] | None:
        """The objects of all ranks, in order, on rank 0; None on the others."""
        if self.size == 1:
            return [thing]
        things = [None] * self.size if self.is_rank_zero else None
        with _collective():
            distributed.gather_object(thing, things)
        return things

    def interleave(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items of all ranks, one of each rank in turn, on rank 0; nothing on the others.

        All ranks make their items at the same time. Rank 0 holds one item of each rank at a time.
        """
        if self.size == 1:
            yield from items
            return
        items = iter(items)
        while True:
            item = next(items, None)
            if not self.max(item is not None)[0]:
                return
            yield from (one for one in self.gather_object(item) or () if one is not None)

    def broadcast_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrite tensors by those of rank 0, in place."""
        for tensor in tensors if self.size > 1 else ():
            with _collective():
                distributed.broadcast(tensor.detach(), 0)

    def barrier(self) -> None:
        """Return when all ranks have called this."""
        self.max(0)


def ranks() -> Ranks:
    """This process's place; rank 0 of 1 outside :func:`process_group`."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Ranks()
    return Ranks(distributed.get_rank(), distributed.get_world_size())


def local_device(device: str) -> str:
    """The device of this rank: ``cuda`` stands for one GPU each."""
    if ranks().size > 1 and device == "cuda":
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device


def map_location() -> dict[str, str] | None:
    """The argument of ``torch.load`` that puts what rank 0 saved from its GPU onto this rank's GPU."""
    return {"cuda:0": local_device("cuda")} if ranks().size > 1 else None


@contextmanager
def process_group(size: int, device: str) -> Iterator[None]:
    """The process group of torch.distributed around the work of one rank, as torchrun's environment describes it.

    Args:
        size: 1 does nothing.
        device: ``cpu``, or ``cuda`` for one GPU each.

    Raises:
        JebmError: this machine has fewer GPUs than ranks.
    """
    if size == 1:
        yield
        return
    if device == "cuda":
        here, found = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if here > found:
            raise JebmError(
                f"params.yaml: compute.devices: asks for {here} GPUs, but this machine offers {found}; lower it, or "
                "run where there are as many"
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Flags and states of generators are on the host, also where weights are not.
    with _collective():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextmanager
def _collective() -> Iterator[None]:
    """Around a collective operation: a rank that is gone becomes a :class:`LostRankError`."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise LostRankError(f"the connection between the processes of this job was lost ({reason})") from error


def _buckets(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Lists of tensors of one type, together not much larger than BUCKET."""
    kinds: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        bucket = kinds.setdefault(tensor.dtype, [])
        bucket.append(tensor)
        if sum(t.numel() for t in bucket) >= BUCKET:
            yield kinds.pop(tensor.dtype)
    yield from kinds.values()
