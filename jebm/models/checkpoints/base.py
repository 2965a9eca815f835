"""Import of backbones with weights from other projects.

A reader of a format is one function, ``path → Imported``, and one line of ``IMPORTERS`` in ``jebm.config.catalogue``.
It never executes code from the file.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, TypeAdapter, ValidationError

from jebm.config.components import build, schema
from jebm.errors import JebmError
from jebm.io.tensors import read_tensors, write_tensors

MAX_LISTED = 5
"""Number of keys that a message lists."""


class Imported(NamedTuple):
    """The backbone in a file: its parameters and its weights."""

    name: str
    """The registered name of the backbone."""
    image_shape: tuple[int, ...]
    backbone: dict[str, Any]
    """The arguments of its constructor that the file determines."""
    weights: dict[str, torch.Tensor]
    """Its state dict, as float32 and integers."""
    facts: dict[str, Any]
    """Further information: epochs, licence …"""


def write_imported(path: Path, imported: Imported) -> None:
    """Write a file of this project: the weights, and a header with the arguments that rebuild the backbone."""
    header = {
        "kind": "imported",
        "spec": {"backbone": {"name": imported.name, **imported.backbone}},
        "image_shape": list(imported.image_shape),
        "facts": imported.facts,
    }
    write_tensors(path, imported.weights, header)


def read_imported(path: Path) -> Imported:
    """Read a file that :func:`write_imported` wrote.

    Raises:
        JebmError: the file is of another kind, or its weights do not fit its header.
    """
    weights, header = read_tensors(path)
    try:
        spec = dict(header["spec"]["backbone"])
        name, shape = spec.pop("name"), tuple(int(side) for side in header["image_shape"])
        block = TypeAdapter(schema("backbone")).validate_python({"name": name, **spec})
        facts = dict(header["facts"])
    except (KeyError, TypeError, ValueError, ValidationError):
        raise JebmError(f"{path}: a file of jebm, but no imported backbone; `jebm import` writes one") from None
    with torch.device("meta"):
        hierarchy = build("backbone", block, shape)
    expected = {key: tuple(tensor.shape) for key, tensor in hierarchy.state_dict().items()}
    check_keys(path, expected, {key: tuple(tensor.shape) for key, tensor in weights.items()})
    check_finite(path, weights)
    return Imported(name, shape, spec, weights, facts)


def check_keys(
    path: Path, expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], optional: Iterable[str] = ()
) -> None:
    """Compare the keys and shapes of weights with the expected ones.

    Raises:
        JebmError: a key is missing (unless it is optional), unknown, or of another shape. The message lists them.
    """
    optional = set(optional)
    missing = [key for key in expected if key not in found and key not in optional]
    extra = [key for key in found if key not in expected]
    other = [
        f"{key} is {list(found[key])} instead of {list(expected[key])}"
        for key in expected
        if key in found and found[key] != expected[key]
    ]
    parts = [
        f"{what} {_listed(keys)}" for what, keys in (("missing", missing), ("unknown", extra), ("wrong", other)) if keys
    ]
    if parts:
        raise JebmError(f"{path}: the weights are not those of the architecture in its settings: {'; '.join(parts)}")


def check_finite(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Check that all weights are finite.

    Raises:
        JebmError: a weight is not finite. The message lists the keys.
    """
    bad = [key for key, value in weights.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise JebmError(f"{path}: weights are not finite: {_listed(bad)}")


def _listed(keys: list[str]) -> str:
    rest = f" and {len(keys) - MAX_LISTED} more" if len(keys) > MAX_LISTED else ""
    return ", ".join(keys[:MAX_LISTED]) + rest


def check_agreement(
    imported: Imported, block: BaseModel, image_shape: tuple[int, ...], levels: int, where: str
) -> None:
    """Compare the backbone of a study with an imported one.

    Args:
        block: the block ``backbone`` of the study.
        image_shape, levels: shape and number of levels of the images of the study.
        where: the parameter file and the study, for the message.

    Raises:
        JebmError: they differ. The message lists the parameters that differ.
    """
    if block.name != imported.name:
        raise JebmError(
            f"{where}.backbone.name: is '{block.name}', the checkpoint holds the backbone '{imported.name}'"
        )
    own, differs = _flat(block.model_dump()), []
    for key, value in _flat(imported.backbone).items():
        if own.get(key) != value:
            differs.append(f"{key} is {own.get(key)!r}, the checkpoint has {value!r}")
    if differs:
        raise JebmError(f"{where}.backbone: {'; '.join(differs)}")
    if tuple(image_shape) != imported.image_shape:
        raise JebmError(
            f"{where}.dataset: has images of shape {list(image_shape)}, the checkpoint is for "
            f"{list(imported.image_shape)}"
        )
    if levels != imported.facts.get("levels", levels):
        raise JebmError(f"{where}.dataset: has {levels} levels, the checkpoint is for {imported.facts['levels']}")


def _flat(block: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A block with dotted keys in place of nested blocks."""
    flat = {}
    for key, value in block.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
