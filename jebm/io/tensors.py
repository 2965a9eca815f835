"""Tensors on disk: safetensors files with a JSON header. The format holds no code, so reading a file is safe."""

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
from jebm.io.files import atomic_write

Weights = dict[str, torch.Tensor]


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], header: dict | None = None) -> None:
    """Write named tensors, with a JSON header that describes them, atomically."""
    payload = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        {"jebm": json.dumps(header or {}, sort_keys=True)},
    )
    with atomic_write(path, "wb") as file:
        file.write(payload)


SNAPSHOT = "snapshot/"
"""Prefix of the weights of an earlier step: ``snapshot/<step>/<name>``. The final weights have no prefix."""


def with_snapshots(weights: Weights, snapshots: dict[int, Weights]) -> Weights:
    """The final weights and those of earlier steps (step → weights) as the tensors of one file."""
    more = {f"{SNAPSHOT}{step}/{name}": t for step, own in snapshots.items() for name, t in own.items()}
    return weights | more


def read_weights(path: Path) -> Weights:
    """The final weights in a file, without snapshots; see :func:`read_tensors`."""
    return read_tensors(path, lambda name: not name.startswith(SNAPSHOT))[0]


def read_snapshots(path: Path) -> dict[int, Weights]:
    """Step → weights for all snapshots in a file, in order of the steps; see :func:`read_tensors`."""
    found: dict[int, Weights] = {}
    for name, tensor in read_tensors(path, lambda name: name.startswith(SNAPSHOT))[0].items():
        step, _, own = name.removeprefix(SNAPSHOT).partition("/")
        found.setdefault(int(step), {})[own] = tensor
    return dict(sorted(found.items()))


DTYPES = {torch.uint8: "U8", torch.float32: "F32", torch.int64: "I64", torch.float64: "F64"}
"""Names of the supported types in safetensors files, by ascending alignment."""


class TensorWriter:
    """Writes tensors row by row. Each is spooled to its own temporary file, so that it need not fit into memory."""

    def __init__(self, spool: Callable[[], BinaryIO]):
        self.header: dict = {}
        """The header, as in :func:`write_tensors`. It may be set until the file is written."""
        self._spool, self._files, self._types, self._shapes = spool, {}, {}, {}

    def append(self, name: str, rows: torch.Tensor) -> None:
        """Append rows (count, …) to a tensor.

        Raises:
            JebmError: the rows differ in type or shape from the earlier rows of the tensor.
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
        """Write a safetensors file: larger types first, as the library does, then in order of appearance."""
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
def write_tensors_by_rows(path: Path, scratch: Path | None = None) -> Iterator[TensorWriter]:
    """Yields a :class:`TensorWriter` and writes its tensors to ``path`` on success, atomically.

    Args:
        scratch: an existing folder for the temporary files; None takes the folder of ``path``.
    """
    path = Path(path)
    if scratch is None:
        scratch = path.parent
        scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        writer = TensorWriter(lambda: files.enter_context(tempfile.TemporaryFile(dir=scratch)))
        yield writer
        with atomic_write(path, "wb") as file:
            writer.write(file)


def read_tensors(path: Path, names: Callable[[str], bool] = lambda name: True) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors whose names satisfy ``names``, and the header.

    Tensors are memory-mapped, so a file may be larger than the memory.

    Raises:
        JebmError: the file does not exist, can't be read, or is not a complete safetensors file of this project.
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
