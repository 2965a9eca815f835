"""Reads a published NVAE checkpoint: a pickled dictionary with weights and training settings.

PyTorch's restricted unpickler reads it, which constructs only tensors and plain containers, and here also
``argparse.Namespace``, the class of the settings. Anything else in the file is refused and not executed.
"""

import argparse
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from jebm.errors import JebmError
from jebm.io.digests import sha256
from jebm.models.backbones.nvae.hierarchy import NvaeHierarchy
from jebm.models.checkpoints.base import Imported, check_finite, check_keys
from jebm.models.checkpoints.nvae_keys import ALIAS, key_map, published_shapes, read_settings

LICENCE = (
    "Published NVAE weights belong to their owner and carry the NVIDIA Source Code Licence: non-commercial use, for "
    "research and evaluation only. jebm neither bundles them nor changes their licence; it may bind what is made from "
    "them too."
)


def read_checkpoint(path: Path) -> Imported:
    """The backbone in a published checkpoint.

    Raises:
        JebmError: the file is missing, damaged, not an NVAE checkpoint, or contains code; its settings describe no
            model; keys are missing or unknown; or weights are not finite.
    """
    args, state, content = _parts(path, _load(path))
    try:
        settings = read_settings(vars(args))
        with torch.device("meta"):
            hierarchy = NvaeHierarchy(settings.image_shape, **settings.backbone)
    except JebmError as error:
        raise JebmError(f"{path}: {error}") from None
    weights = _convert(path, hierarchy, state)
    facts = {"source": path.name, "sha256": sha256(path), "dataset": args.dataset, "licence": LICENCE}
    facts |= {"levels": settings.levels} if settings.levels else {}
    facts |= {key: content[key] for key in ("epoch", "global_step") if type(content.get(key)) is int}
    return Imported("nvae", settings.image_shape, settings.backbone, weights, facts)


def _load(path: Path) -> Any:
    try:
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # PyTorch warns about the file format; unreadable files are refused below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise JebmError(f"{path}: no such file") from None
    except (IsADirectoryError, PermissionError) as error:
        raise JebmError(f"{path}: can't be read: {error.strerror}") from None
    except Exception as error:  # a damaged file can make the reader fail in any way
        named = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if named:
            raise JebmError(
                f"{path}: holds code ('{named[1]}') besides weights and settings; none of it was run, and it is refused"
            ) from None
        raise JebmError(f"{path}: not a checkpoint of PyTorch, or a damaged one; fetch it again") from None


def _parts(path: Path, content: Any) -> tuple[argparse.Namespace, dict[str, torch.Tensor], dict]:
    """The settings, the weights and the whole dictionary."""
    missing = [key for key in ("state_dict", "args") if not (isinstance(content, dict) and key in content)]
    if missing:
        raise JebmError(f"{path}: not an NVAE checkpoint: it has no {' and no '.join(missing)}")
    args, state = content["args"], content["state_dict"]
    if not isinstance(args, argparse.Namespace) or not isinstance(state, dict):
        raise JebmError(f"{path}: not an NVAE checkpoint: args must be a Namespace and state_dict a dictionary")
    odd = [str(key) for key, value in state.items() if not (isinstance(key, str) and torch.is_tensor(value))]
    if odd:
        raise JebmError(f"{path}: state_dict holds something else than tensors: {odd[0]}")
    return args, state, content


def _convert(path: Path, hierarchy: NvaeHierarchy, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under the keys of our backbone; unknown or missing keys are errors."""
    keys = key_map(hierarchy)
    aliases = {key: key.removesuffix(ALIAS) + "weight" for key in keys if key.endswith(f".{ALIAS}")}
    found = {key: tuple(value.shape) for key, value in state.items()}
    check_keys(path, published_shapes(hierarchy), found, optional=aliases)
    for alias, key in aliases.items():
        if alias in state and not torch.equal(state[alias], state[key]):
            raise JebmError(f"{path}: {alias} and {key} are two names of one weight, but differ")
    check_finite(path, {key: state[key] for key in keys if key not in aliases})
    weights = {own: _plain(state[key]) for key, own in keys.items() if key not in aliases}
    return {own: weights[own] for own in hierarchy.state_dict()}


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in float32, or int64 for integers."""
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.int64).clone()


def report(imported: Imported) -> str:
    """A summary of an imported backbone for the terminal."""
    block, weights = imported.backbone, imported.weights
    likelihood, scales = block["likelihood"], block["layers_per_scale"]
    parts = [f"{key} {value}" for key, value in likelihood.items() if key != "name"]
    parameters = sum(
        value.numel() for key, value in weights.items() if value.is_floating_point() and "running" not in key
    )
    return "\n".join(
        [
            f"images       {'×'.join(map(str, imported.image_shape))} ({imported.facts['dataset']})",
            f"layers       {sum(scales)} of {block['latent_channels']} channels, at {len(scales)} scales, "
            f"layers per scale {scales} (finest first)",
            f"channels     encoder {block['encoder_channels']}, decoder {block['decoder_channels']}",
            f"cells        {block['architecture']}, flows per layer: {block['flows']}",
            f"likelihood   {', '.join([likelihood['name'], *parts])}",
            f"parameters   {parameters:,} in {len(weights):,} tensors, every key of the file accounted for",
            f"trained for  {imported.facts.get('epoch', 'an unknown number of')} epochs",
        ]
    )
