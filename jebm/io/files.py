"""Atomic writing of files, JSON and CSV. Imports no torch, because ``snakemake -n`` uses this module."""

import csv
import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jebm.errors import JebmError


@contextmanager
def atomic_write(path: Path, mode: str = "w"):
    """Atomic write: yields a temporary file in the same folder and renames it to ``path`` on success.

    On failure ``path`` is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, mode, **({} if "b" in mode else {"encoding": "utf-8", "newline": ""})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, content: Any) -> None:
    """Write a JSON value atomically, with sorted keys; NaN and infinities are refused (ValueError)."""
    with atomic_write(path) as file:
        json.dump(content, file, indent=1, sort_keys=True, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read a JSON value.

    Raises:
        JebmError: the file does not exist or is not a JSON file.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JebmError(f"{path}: no such file; `snakemake {path}` makes it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise JebmError(f"{path}: not a JSON file ({error}); delete it and run again") from None


def write_csv(path: Path, columns: list[str], rows: Iterable[dict]) -> None:
    """Write rows (column → value) atomically, with a header line."""
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
