"""Ranks: the processes that run one job together, each on a device of its own, by torch.distributed.

Every rank runs the same code on its share of each batch with random streams of its own; what is learned from the
shares is averaged, so that all ranks hold the same weights at every step. A job of one process is rank 0 of 1, for
which every operation here is the identity and costs nothing. Which rank a process is, is known to torch.distributed
alone (``ranks``).
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
"""Numbers that are averaged at once: more would take more memory, and be no faster."""


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those of its job."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes files."""
        return self.rank == 0

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """This rank's rows of a batch that is common to all; the shares are equal, so that means of means are means.

        Raises:
            JebmError: the rows can't be shared out equally.
        """
        if len(batch) % self.size:
            raise JebmError(
                f"params.yaml: compute.devices: a batch of {len(batch)} examples can't be shared equally by "
                f"{self.size} devices"
            )
        return batch.chunk(self.size)[self.rank]

    def part(self, count: int) -> range:
        """This rank's share of ``count`` things in a row; the shares differ by one at most.

        Raises:
            JebmError: there are fewer things than ranks.
        """
        if count < self.size:
            raise JebmError(f"params.yaml: compute.devices: {count} images are too few for {self.size} devices")
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def own(self, stream: torch.Generator) -> torch.Generator:
        """Turn a stream that is the same on all ranks into this rank's own; returns it."""
        if self.size > 1:
            stream.manual_seed(derive_seed(stream.initial_seed(), "rank", self.rank))
        return stream

    def split(self, stream: torch.Generator) -> torch.Generator:
        """Turn a stream that is the same on all ranks into this rank's own; returns one that stays common.

        One process has one stream for everything.
        """
        if self.size == 1:
            return stream
        common = torch.Generator(stream.device)
        common.set_state(stream.get_state())
        self.own(stream)
        return common

    def average(self, tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """Replace tensors by their mean over the ranks, in place, and return them; all ranks get the same bits."""
        tensors = list(tensors)
        for bucket in _buckets(tensors) if self.size > 1 else ():
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            with _together():
                distributed.all_reduce(flat)
            flat /= self.size
            for tensor, mean in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(mean.view_as(tensor))
        return tensors

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace gradients by their mean over the ranks: that of a loss which is the mean over all shares."""
        self.average(p.grad for p in parameters if p.grad is not None)

    def means(self, scalars: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Means of scalars over the ranks; one that is not finite on some rank is not finite on any."""
        if self.size == 1:
            return scalars
        values = torch.stack([value.detach().double() for value in scalars.values()])
        self.average([values])
        return dict(zip(scalars, values.unbind(), strict=True))

    def largest(self, *numbers: float) -> list[float]:
        """The largest of each number over the ranks: how they agree on what to do next."""
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        with _together():
            distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return values.tolist()

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """One tensor of each rank, in their order, on every rank; the shapes must agree."""
        if self.size == 1:
            return [tensor]
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with _together():
            distributed.all_gather(parts, tensor)
        return parts

    def collect(self, thing: Any) -> list[Any] | None:
        """What each rank has, in their order, on rank 0; None on the others."""
        if self.size == 1:
            return [thing]
        things = [None] * self.size if self.leads else None
        with _together():
            distributed.gather_object(thing, things)
        return things

    def merged(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items of all ranks on rank 0, one of each rank in turn; none on the others, which make theirs meanwhile.

        Rank 0 holds one item of each rank at a time.
        """
        if self.size == 1:
            yield from items
            return
        items = iter(items)
        while True:
            item = next(items, None)
            if not self.largest(item is not None)[0]:
                return
            yield from (one for one in self.collect(item) or () if one is not None)

    def follow(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrite tensors by those of rank 0."""
        for tensor in tensors if self.size > 1 else ():
            with _together():
                distributed.broadcast(tensor.detach(), 0)

    def wait(self) -> None:
        """Return when all ranks are here."""
        self.largest(0)


def ranks() -> Ranks:
    """This process's place; rank 0 of 1 outside :func:`joined`."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Ranks()
    return Ranks(distributed.get_rank(), distributed.get_world_size())


def own_device(device: str) -> str:
    """The device of this rank: ``cuda`` stands for one GPU each."""
    if ranks().size > 1 and device == "cuda":
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device


def own_places() -> dict[str, str] | None:
    """For ``torch.load``: what rank 0 saved from its GPU belongs on this rank's."""
    return {"cuda:0": own_device("cuda")} if ranks().size > 1 else None


@contextmanager
def joined(size: int, device: str) -> Iterator[None]:
    """Around the work of one rank of ``size``, as torchrun's environment variables describe it.

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
    with _together():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    """Around an operation for which all ranks must be there."""
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
