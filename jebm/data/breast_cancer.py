"""scikit-learn's bundled breast-cancer table (UCI Wisconsin diagnostic, 569 rows of 30 measurements): no images.

Each column is mapped to its quantiles in the training split, and the quantiles are rounded to integer levels. A row is
then stored, modelled and compared like an image of shape (30,).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.datasets import load_breast_cancer

from jebm.config.types import Count, GreyLevels, Natural
from jebm.data.assets import AssetFiles
from jebm.errors import SettingError
from jebm.runtime.random import make_rng


class BreastCancer:
    """Train / validation / test by a permutation of all rows, and one out-of-distribution set.

    The set ``shuffled-columns`` holds the test rows with each column permuted independently. This preserves the
    marginal distributions and removes the dependence between columns. Labels are 0 (malignant) and 1 (benign).

    Args:
        split_seed: seed of the permutation and of the shuffled columns.
        validation_count, test_count: number of rows in these splits; the other rows are the training split.
        levels: number of levels to which the quantiles are rounded.
    """

    count = 569
    """Number of rows before they are split."""
    item_shape = (30,)

    def __init__(
        self,
        *,
        split_seed: Natural = 0,
        validation_count: Count = 100,
        test_count: Count = 200,
        levels: GreyLevels = 256,
    ):
        self.split_seed, self.levels = split_seed, levels
        self.validation_count, self.test_count = validation_count, test_count

    def prepare(
        self, files: AssetFiles | None = None, scratch: Path | None = None
    ) -> tuple[dict[str, torch.Tensor], int, dict]:
        """The splits, the number of levels, and facts for the manifest. In the permutation the test rows come first."""
        source = load_breast_cancer()
        held_out = self.test_count + self.validation_count
        if held_out > len(source.data) - 2:
            raise SettingError(
                f"dataset: validation_count + test_count is {held_out}, which leaves fewer than two of "
                f"the {len(source.data)} rows to train on"
            )
        order = torch.randperm(len(source.data), generator=make_rng("breast-cancer", "split", self.split_seed)).numpy()
        parts = {
            "test": order[: self.test_count],
            "validation": order[self.test_count : held_out],
            "train": order[held_out:],
        }
        grid = QuantileGrid(source.data[parts["train"]], self.levels)
        tensors = {name: grid.encode(source.data[rows]) for name, rows in parts.items()}
        tensors |= {
            f"{name}_labels": torch.from_numpy(source.target[rows].astype("int64")) for name, rows in parts.items()
        }
        rng = make_rng("breast-cancer", "shuffled-columns", self.split_seed)
        tensors["ood/shuffled-columns"] = shuffle_columns(tensors["test"], rng)
        facts = {
            "source": f"scikit-learn {sklearn.__version__} load_breast_cancer",
            "split_seed": self.split_seed,
            "columns": [str(name) for name in source.feature_names],
        }
        return tensors, self.levels, facts


class QuantileGrid:
    """Maps each column to its empirical quantile, rounded to integer levels, and back.

    Args:
        rows: (count, columns), at least two rows, which define the quantiles.
        levels: number of levels. Level 0 stands for the smallest value in ``rows`` and all smaller values, level
            ``levels − 1`` for the largest value and all larger values.
    """

    def __init__(self, rows: np.ndarray, levels: int):
        self.sorted, self.levels = np.sort(rows, axis=0), levels
        self.quantiles = np.linspace(0.0, 1.0, len(rows))

    def encode(self, rows: np.ndarray) -> torch.Tensor:
        """(count, columns) in the units of the source → uint8 levels. Equal values get the mean of their ranks."""
        columns = [self._quantile(values, column) for values, column in zip(self.sorted.T, rows.T, strict=True)]
        return torch.from_numpy(np.rint(np.stack(columns, 1) * (self.levels - 1)).astype(np.uint8))

    def decode(self, levels: torch.Tensor) -> np.ndarray:
        """uint8 levels (count, columns) → values in the units of the source."""
        share = levels.numpy() / (self.levels - 1)
        columns = zip(self.sorted.T, share.T, strict=True)
        return np.stack([np.interp(column, self.quantiles, values) for values, column in columns], 1)

    def _quantile(self, values: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The quantile of each entry among sorted values, in [0, 1], interpolated linearly."""
        distinct, first, counts = np.unique(values, return_index=True, return_counts=True)
        return np.interp(column, distinct, (first + (counts - 1) / 2) / max(len(values) - 1, 1))


def shuffle_columns(rows: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Rows (count, columns) with each column permuted independently."""
    order = torch.stack([torch.randperm(len(rows), generator=rng) for _ in range(rows.shape[1])], 1)
    return rows.gather(0, order)
