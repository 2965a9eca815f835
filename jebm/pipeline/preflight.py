"""Refuses settings that can't work before the first job starts. Only the size and the shape of the data are looked up.

A dry run calls this too, so this module must not import torch. The number of images is known for bundled data and for
folders and zip files of the user, not for downloaded archives, which are checked when they are prepared.
"""

import ctypes
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from jebm.config.assets import data_paths
from jebm.config.files import current_params_file
from jebm.config.schema import Base
from jebm.errors import JebmError, ParamsError
from jebm.io.image_files import image_names
from jebm.pipeline.item_shape import item_shape
from jebm.pipeline.study import StudyPlan


class Mistake(NamedTuple):
    """A setting that can't work."""

    key: str
    problem: str


def refuse_impossible(plan: StudyPlan) -> None:
    """Check the settings of a study against its data.

    Raises:
        ParamsError: one line for each mistake, with the file and the key.
    """
    _refuse(plan, _mistakes)


def refuse_missing_devices(plan: StudyPlan) -> None:
    """Check that this machine has the devices that a study computes on.

    Raises:
        ParamsError: one line for each device that is not here.
    """
    _refuse(plan, _missing_devices)


def _refuse(plan: StudyPlan, check: Callable[[Base], Iterator[Mistake]]) -> None:
    found: dict[Mistake, list[str]] = {}
    for name, variant in plan.variants.items():
        for mistake in check(variant.params):
            found.setdefault(mistake, []).append(name)
    lines = []
    for (key, problem), names in found.items():
        of_all = len(names) == len(plan.variants)
        lines.append(f"{_place(plan.name)}{'' if of_all else f'variants.{names[0]}.'}{key}: {problem}")
    if lines:
        raise ParamsError("\n".join(lines))


def _place(study: str) -> str:
    """The file and the keys that lead to a study's block."""
    own = current_params_file().with_suffix("") / f"{study}.yaml"
    return f"{own}: " if own.exists() else f"{current_params_file()}: {study}."


def _missing_devices(params: Base) -> Iterator[Mistake]:
    if problem := device_problem(params.compute.device):
        yield Mistake("compute.device", problem)


def _mistakes(params: Base) -> Iterator[Mistake]:
    dataset = params.dataset
    if params.features.traits.needs_labels and hasattr(dataset, "source") and not dataset.source.traits.labelled:
        yield Mistake("features.name", f"'{params.features.name}' needs labelled images, which {_own(dataset)} lack")
    try:
        total = _count(dataset)
    except JebmError as error:
        yield Mistake("dataset.source.path", str(error))
        return
    if total is None:
        return
    splits = _splits(dataset, total)
    if isinstance(splits, Mistake):
        yield splits
        return
    yield from _too_small_to_train(params, splits["train"])
    yield from _too_few_for_covariances(params, splits)


def _own(dataset: BaseModel) -> str:
    return f"images of the source '{dataset.source.name}'"


def _count(dataset: BaseModel) -> int | None:
    """The number of images before they are split, if it is known without opening an archive."""
    if hasattr(dataset, "source"):
        paths = data_paths(dataset.source)
        return len(_image_names(paths[0])) if dataset.source.name == "folder" else None
    return getattr(dataset.traits, "count", None)


@cache
def _image_names(path: str) -> list[str]:
    return image_names(Path(path))


def _splits(dataset: BaseModel, total: int) -> dict[str, int] | Mistake:
    """The sizes of the splits that are drawn from ``total`` images; a held-out class makes them smaller."""
    rest, sizes = total, {}
    for split in ("test", "validation"):
        key = f"dataset.{split}_count"
        wanted = getattr(dataset, f"{split}_count")
        if wanted is None:
            return Mistake(key, f"the data have no {split} split of their own; give the number of images to draw")
        if wanted >= rest:
            return Mistake(key, f"{wanted} of the {rest} images that are left would leave none to train on")
        sizes[split], rest = wanted, rest - wanted
    return sizes | {"train": min(rest, getattr(dataset, "train_count", None) or rest)}


def _too_small_to_train(params: Base, count: int) -> Iterator[Mistake]:
    blocks = {"train_backbone": params.train_backbone, "train_joint": params.train_joint}
    if params.prior.traits.by_gradient:
        blocks["train_prior"] = params.train_prior
    for key, block in blocks.items():
        if block is not None and block.batch_size > count:
            yield Mistake(f"{key}.batch_size", f"is {block.batch_size}, but there are {count} images to train on")


def _too_few_for_covariances(params: Base, splits: dict[str, int]) -> Iterator[Mistake]:
    """A covariance matrix of d features is singular unless each set that is compared has more than d images."""
    features, shape = params.features, item_shape(params.dataset)
    needed = math.prod(shape) if features.traits.flattens and shape else getattr(features, "dimensions", 0)
    reference = params.evaluate_samples.reference
    sizes = {
        "draw_samples.count": params.draw_samples.count,
        "dataset.train_count" if getattr(params.dataset, "train_count", None) else "dataset": splits["train"],
        "dataset" if reference == "train" else f"dataset.{reference}_count": splits[reference],
    }
    for key, count in sizes.items():
        if count <= needed:
            what = "images to train on" if key in ("dataset", "dataset.train_count") else "images"
            yield Mistake(
                key,
                f"{count} {what} are too few for a Fréchet distance in {needed} features, which needs more than that; "
                "raise the number, make the images smaller (dataset.size, mode: grey), or choose other features",
            )


@cache
def device_problem(device: str) -> str | None:
    """Why a device can't be used on this machine, or None; for GPUs of NVIDIA the driver is asked, not torch."""
    if device.startswith("cuda"):
        found = _gpus()
        index = int(device.partition(":")[2] or 0)
        if found == 0:
            return f"is '{device}', but the driver finds no GPU of NVIDIA on this machine; `device: cpu` needs none"
        if found is not None and index >= found:
            return f"is '{device}', but this machine has {found} GPUs, which count from 0"
    return None


def _gpus() -> int | None:
    """The number of GPUs that CUDA's driver finds; None if that can't be told."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    if driver.cuInit(0) != 0:
        return 0
    return count.value if driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else None
