"""Tensors on disk: images, arrays and weights as safetensors, which hold no code, with a JSON header."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from jebm.errors import JebmError
from jebm.io.files import published

Weights = dict[str, torch.Tensor]


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], header: dict | None = None) -> None:
    """Write named tensors and a JSON header (any JSON value that says what they are)."""
    payload = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        {"jebm": json.dumps(header or {}, sort_keys=True)},
    )
    with published(path, "wb") as file:
        file.write(payload)


SNAPSHOT = "snapshot/"
"""Before the names of the weights of an earlier step, ``snapshot/<step>/<name>``, beside those that are published."""


def with_snapshots(weights: Weights, snapshots: dict[int, Weights]) -> Weights:
    """Published weights, and those of earlier steps, as one file holds them."""
    more = {f"{SNAPSHOT}{step}/{name}": t for step, own in snapshots.items() for name, t in own.items()}
    return weights | more


def read_weights(path: Path) -> Weights:
    """The published weights of a file, without snapshots; see :func:`read_tensors`."""
    return read_tensors(path, lambda name: not name.startswith(SNAPSHOT))[0]


def read_snapshots(path: Path) -> dict[int, Weights]:
    """Step → weights, of the snapshots of a file, in the order of the steps; see :func:`read_tensors`."""
    found: dict[int, Weights] = {}
    for name, tensor in read_tensors(path, lambda name: name.startswith(SNAPSHOT))[0].items():
        step, _, own = name.removeprefix(SNAPSHOT).partition("/")
        found.setdefault(int(step), {})[own] = tensor
    return dict(sorted(found.items()))


DTYPES = {torch.uint8: "U8", torch.float32: "F32", torch.int64: "I64", torch.float64: "F64"}
"""How safetensors calls the types that are streamed, by ascending alignment."""


class TensorStream:
    """Tensors that grow by rows. Each is spooled to a file of its own, so that none need be in memory."""

    def __init__(self, spool: Callable[[], BinaryIO]):
        self.header: dict = {}
        """What :func:`write_tensors` calls so; may be set until the end."""
        self._spool, self._files, self._types, self._shapes = spool, {}, {}, {}

    def append(self, name: str, rows: torch.Tensor) -> None:
        """Add rows (count, …) to a tensor; all of a tensor's rows have one type and one shape.

        Raises:
            JebmError: they have not.
        """
        if name not in self._files:
            self._files[name], self._types[name] = self._spool(), rows.dtype
            self._shapes[name] = [0, *rows.shape[1:]]
        if (rows.dtype, list(rows.shape[1:])) != (self._types[name], self._shapes[name][1:]):
            raise JebmError(
                f"{name}: rows of {list(rows.shape[1:])} {rows.dtype} don't fit onto {self._shapes[name][1:]} "
                f"{self._types[name]}"
            )
        self._files[name].write(rows.detach().cpu().contiguous().numpy().data)
        self._shapes[name][0] += len(rows)

    def write(self, file: BinaryIO) -> None:
        """Write the whole file as safetensors would: larger types first, and those of one type as they came."""
        order = list(DTYPES)
        names = sorted(self._files, key=lambda name: -order.index(self._types[name]))
        header, start = {"__metadata__": {"jebm": json.dumps(self.header, sort_keys=True)}}, 0
        for name in names:
            end = start + self._files[name].tell()
            dtype = DTYPES[self._types[name]]
            header[name] = {"dtype": dtype, "shape": self._shapes[name], "data_offsets": [start, end]}
            start = end
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            self._files[name].seek(0)
            shutil.copyfileobj(self._files[name], file, 1 << 24)


@contextmanager
def stream_tensors(path: Path, scratch: Path | None = None) -> Iterator[TensorStream]:
    """A file of tensors that are given row by row; it appears under ``path`` at the end, whole or not at all.

    ``scratch`` is an existing folder for the rows on their way; without one they go beside the file.
    """
    path = Path(path)
    if scratch is None:
        scratch = path.parent
        scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        stream = TensorStream(lambda: files.enter_context(tempfile.TemporaryFile(dir=scratch)))
        yield stream
        with published(path, "wb") as file:
            stream.write(file)


def read_tensors(path: Path, names: Callable[[str], bool] = lambda name: True) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors whose name is wanted, and the header. The tensors are mapped: a file may exceed the memory.

    Raises:
        JebmError: no such file, or not a whole safetensors file of this project.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["jebm"])
            return {name: file.get_tensor(name) for name in file.keys() if names(name)}, header  # noqa: SIM118
    except FileNotFoundError:
        raise JebmError(f"{path}: no such file; `snakemake {path}` makes it") from None
    except (IsADirectoryError, PermissionError) as error:
        raise JebmError(f"{path}: can't be read: {error.strerror}") from None
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise JebmError(f"{path}: corrupt or not a file of jebm ({error}); delete it and run again") from None
