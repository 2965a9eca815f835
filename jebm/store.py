"""Tensors on disk: images, arrays and weights as safetensors, which hold no code, with a JSON header."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from jebm.errors import JebmError
from jebm.files import published

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


def read_tensors(path: Path, names: Callable[[str], bool] = lambda name: True) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors whose name is wanted, and the header.

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
