"""Ranks: the processes of one job, each with its own device, connected by torch.distributed.

All ranks run the same code, each on its shard of every batch and with its own random numbers. Gradients are averaged,
so all ranks have the same weights at every step. A job of one process is rank 0 of 1; every operation here is then the
identity and costs nothing. DistributedDataParallel is not used: it wraps the ``forward`` of one module, but our losses
call parts of two modules.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from jebm.errors import LostRankError, SettingError
from jebm.runtime.random import derive_seed

TIMEOUT = timedelta(minutes=30)
"""How long a collective operation waits for the other ranks before it fails."""
BUCKET = 2**24
"""Elements per all-reduce. Larger buckets take more memory and are not faster."""


@dataclass(frozen=True)
class Ranks:
    """The rank of this process and the number of ranks of its job."""

    rank: int = 0
    size: int = 1

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the rank that writes files."""
        return self.rank == 0

    def shard_batch(self, batch: torch.Tensor) -> torch.Tensor:
        """This rank's rows of a batch that all ranks have. Shards have equal sizes, so means of means are exact.

        Raises:
            SettingError: the number of rows is not a multiple of the number of ranks.
        """
        if len(batch) % self.size:
            raise SettingError(
                f"compute.devices: a batch of {len(batch)} examples can't be shared equally by {self.size} devices"
            )
        return batch.chunk(self.size)[self.rank]

    def shard_range(self, count: int) -> range:
        """This rank's contiguous part of ``range(count)``; the lengths of the parts differ by one at most.

        Raises:
            SettingError: ``count`` is less than the number of ranks.
        """
        if count < self.size:
            raise SettingError(f"compute.devices: {count} images are too few for {self.size} devices")
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def seed_rng(self, rng: torch.Generator) -> torch.Generator:
        """Reseed an RNG that is identical on all ranks so that each rank draws different numbers.

        Modifies and returns it.
        """
        if self.size > 1:
            rng.manual_seed(derive_seed(rng.initial_seed(), "rank", self.rank))
        return rng

    def fork_rng(self, rng: torch.Generator) -> torch.Generator:
        """Reseed an RNG by :meth:`seed_rng`, and return a copy of its previous state, which is identical on all ranks.

        With a single rank the RNG is returned unchanged.
        """
        if self.size == 1:
            return rng
        common = torch.Generator(rng.device)
        common.set_state(rng.get_state())
        self.seed_rng(rng)
        return common

    def average(self, tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """All-reduce tensors to their means, in place, and return them. The result is bit-identical on all ranks."""
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
        """All-reduce gradients to their means: the gradient of the loss on the whole batch."""
        self.average(p.grad for p in parameters if p.grad is not None)

    def mean(self, scalars: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """All-reduce named scalars to their means. A value that is not finite on one rank becomes so on all ranks."""
        if self.size == 1:
            return scalars
        values = torch.stack([value.detach().double() for value in scalars.values()])
        self.average([values])
        return dict(zip(scalars, values.unbind(), strict=True))

    def max(self, *numbers: float) -> list[float]:
        """All-reduce numbers to their maxima. The ranks use this to agree on what to do next."""
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        with _collective():
            distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return values.tolist()

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all ranks, by rank, on every rank; their shapes must agree."""
        if self.size == 1:
            return [tensor]
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with _collective():
            distributed.all_gather(parts, tensor)
        return parts

    def gather_object(self, thing: Any) -> list[Any] | None:
        """The objects of all ranks, by rank, on rank 0; None on the other ranks."""
        if self.size == 1:
            return [thing]
        things = [None] * self.size if self.is_rank_zero else None
        with _collective():
            distributed.gather_object(thing, things)
        return things

    def interleave(self, items: Iterable[Any]) -> Iterator[Any]:
        """On rank 0 the items of all ranks, one of each rank in turn; on the other ranks no items.

        All ranks compute their items in parallel. Rank 0 holds one item of each rank at a time.
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
        """Overwrite tensors in place with those of rank 0."""
        for tensor in tensors if self.size > 1 else ():
            with _collective():
                distributed.broadcast(tensor.detach(), 0)

    def barrier(self) -> None:
        """Wait until all ranks have called this."""
        self.max(0)


def ranks() -> Ranks:
    """The rank of this process, as torch.distributed knows it; rank 0 of 1 outside :func:`process_group`."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Ranks()
    return Ranks(distributed.get_rank(), distributed.get_world_size())


def local_device(device: str) -> str:
    """The device of this rank; ``cuda`` stands for one GPU per rank."""
    if ranks().size > 1 and device == "cuda":
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device


def map_location() -> dict[str, str] | None:
    """The argument of ``torch.load`` that moves tensors which rank 0 saved from its GPU to the GPU of this rank."""
    return {"cuda:0": local_device("cuda")} if ranks().size > 1 else None


@contextmanager
def process_group(size: int, device: str) -> Iterator[None]:
    """Join the process group that the environment variables of torchrun describe; leave it at the end.

    Args:
        size: number of ranks; 1 does nothing.
        device: ``cpu``, or ``cuda`` for one GPU per rank.

    Raises:
        SettingError: this machine has fewer GPUs than ranks.
    """
    if size == 1:
        yield
        return
    if device == "cuda":
        here, found = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if here > found:
            raise SettingError(
                f"compute.devices: asks for {here} GPUs, but this machine offers {found}; lower it, or "
                "run where there are as many"
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Gloo is needed on GPUs too: flags and states of random number generators are tensors on the CPU.
    with _collective():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextmanager
def _collective() -> Iterator[None]:
    """Turn the failure of a collective operation into a :class:`LostRankError`."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise LostRankError(f"the connection between the processes of this job was lost ({reason})") from error


def _buckets(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Lists of tensors of one type with about ``BUCKET`` elements or fewer."""
    kinds: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        bucket = kinds.setdefault(tensor.dtype, [])
        bucket.append(tensor)
        if sum(t.numel() for t in bucket) >= BUCKET:
            yield kinds.pop(tensor.dtype)
    yield from kinds.values()
