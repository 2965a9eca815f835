"""scikit-learn's bundled handwritten digits (UCI optical digits, 8×8, 17 grey levels), and out-of-distribution sets.

A dataset class takes its parameters by keyword and implements ``prepare(files, scratch) → (tensors, levels, facts)``.
This dataset needs no files from outside.
"""

from __future__ import annotations

from pathlib import Path

import sklearn
import torch
from sklearn.datasets import load_digits, load_sample_images

from jebm.config.types import Count, Digit, Natural, OodSets
from jebm.data.assets import AssetFiles
from jebm.errors import SettingError
from jebm.runtime.random import make_rng

LEVELS = 17


class Digits:
    """Train / validation / test by a permutation of all 1,797 images, and out-of-distribution sets.

    Args:
        split_seed: seed of the permutation and of all out-of-distribution sets.
        validation_count, test_count: number of images in these splits; the other images are the training split.
        ood_count: number of images in each of ``ood_sets``.
        ood_sets: out-of-distribution sets to make.
        held_out_class: a digit that is left out of all splits; its images are the additional set ``held-out``.
    """

    count = 1797
    """Number of images before they are split."""
    item_shape = (1, 8, 8)

    def __init__(
        self,
        *,
        split_seed: Natural = 0,
        validation_count: Count = 200,
        test_count: Count = 500,
        ood_count: Count = 500,
        ood_sets: OodSets = [],  # noqa: B006
        held_out_class: Digit | None = None,
    ):
        self.split_seed = split_seed
        self.validation_count, self.test_count = validation_count, test_count
        self.ood_count, self.ood_sets = ood_count, ood_sets
        self.held_out_class = held_out_class

    def prepare(
        self, files: AssetFiles | None = None, scratch: Path | None = None
    ) -> tuple[dict[str, torch.Tensor], int, dict]:
        """The splits, the number of levels, and facts for the manifest. The test images come first."""
        source = load_digits()
        images = torch.from_numpy(source.images).to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(source.target).to(torch.int64)
        facts = {"source": f"scikit-learn {sklearn.__version__} load_digits", "split_seed": self.split_seed}
        outliers = {}
        if self.held_out_class is not None:
            normal = labels != self.held_out_class
            outliers["ood/held-out"] = images[~normal]
            images, labels = images[normal], labels[normal]
            facts["held_out_class"] = self.held_out_class
        held_out = self.test_count + self.validation_count
        if held_out >= len(images):
            raise SettingError(
                f"dataset: validation_count + test_count is {held_out}, which leaves nothing of the "
                f"{len(images)} digits to train on"
            )
        order = torch.randperm(len(images), generator=make_rng("digits", "split", self.split_seed))
        parts = {
            "test": order[: self.test_count],
            "validation": order[self.test_count : held_out],
            "train": order[held_out:],
        }
        tensors = {name: images[index] for name, index in parts.items()}
        tensors |= {f"{name}_labels": labels[index] for name, index in parts.items()}
        for name in self.ood_sets:
            rng = make_rng("digits", "ood", name, self.split_seed)
            tensors[f"ood/{name}"] = OOD[name](tensors["test"], tensors["test_labels"], self.ood_count, rng)
        return tensors | outliers, LEVELS, facts


def _draw(test, count, rng):
    """``count`` indices of test digits; no index occurs twice before all have occurred."""
    rounds = -(-count // len(test))
    return torch.cat([torch.randperm(len(test), generator=rng) for _ in range(rounds)])[:count]


def _draw_pairs(test, labels, count, rng):
    """Indices of ``count`` pairs of test digits; the digits of a pair are of different classes."""
    if len(labels.unique()) < 2:
        raise SettingError(
            f"dataset.test_count: {len(test)} test digits hold a single class; the sets half-mix and overlay join two"
        )
    first, second = _draw(test, count, rng), _draw(test, count, rng)
    while (same := labels[first] == labels[second]).any():
        second = torch.where(same, torch.randint(len(test), (count,), generator=rng), second)
    return first, second


def _patches(test, labels, count, rng):
    """8×8 crops of scikit-learn's two photographs, converted to 17 grey levels."""
    grey = [torch.from_numpy(photo.copy()).float().mean(-1) for photo in load_sample_images().images]
    size, crops = test.shape[-1], []
    for which in torch.randint(len(grey), (count,), generator=rng).tolist():
        height, width = grey[which].shape
        top = int(torch.randint(height - size + 1, (1,), generator=rng))
        left = int(torch.randint(width - size + 1, (1,), generator=rng))
        crops.append(grey[which][top : top + size, left : left + size])
    return (torch.stack(crops) * ((LEVELS - 1) / 255)).round().to(torch.uint8).unsqueeze(1)


def _uniform(test, labels, count, rng):
    return torch.randint(LEVELS, (count, *test.shape[1:]), generator=rng, dtype=torch.uint8)


def _constant(test, labels, count, rng):
    levels = torch.randint(LEVELS, (count, 1, 1, 1), generator=rng, dtype=torch.uint8)
    return levels.expand(-1, *test.shape[1:]).contiguous()


def _half_mix(test, labels, count, rng):
    """The left half of a test digit joined to the right half of a digit of another class."""
    first, second = _draw_pairs(test, labels, count, rng)
    half = test.shape[-1] // 2
    return torch.cat([test[first][..., :half], test[second][..., half:]], dim=-1)


def _vertical_flip(test, labels, count, rng):
    return test[_draw(test, count, rng)].flip(-2)


def _overlay(test, labels, count, rng):
    """The pixelwise maximum of two test digits of different classes."""
    first, second = _draw_pairs(test, labels, count, rng)
    return torch.maximum(test[first], test[second])


OOD = {
    "patches": _patches,
    "uniform": _uniform,
    "constant": _constant,
    "half-mix": _half_mix,
    "vertical-flip": _vertical_flip,
    "overlay": _overlay,
}
