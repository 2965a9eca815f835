"""The table dataset: splits, the quantile grid, and no information from held-out rows."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer

from jebm.data import breast_cancer
from jebm.data.breast_cancer import BreastCancer, QuantileGrid, shuffle_columns
from jebm.data.dataset import quantise, to_pixels
from jebm.errors import JebmError
from jebm.runtime.random import make_rng

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def table():
    tensors, _, _ = BreastCancer().prepare()
    return tensors


def test_splits_have_the_asked_counts_and_cover_the_table(table):
    assert {name: tuple(table[name].shape) for name in SPLITS} == {
        "train": (269, 30), "validation": (100, 30), "test": (200, 30),
    }  # fmt: skip
    labels = torch.cat([table[f"{name}_labels"] for name in SPLITS])
    assert labels.bincount().tolist() == [212, 357]  # malignant, benign
    assert labels.dtype == torch.int64


def test_splits_are_disjoint_and_in_the_order_of_one_permutation():
    """Rows of the source, found again by their quantiles on a grid of the whole table."""
    source = load_breast_cancer().data
    order = torch.randperm(569, generator=make_rng("breast-cancer", "split", 0)).numpy()
    assert len(set(order)) == 569
    grid = QuantileGrid(source[order[300:]], 256)
    tensors, _, _ = BreastCancer().prepare()
    assert torch.equal(tensors["test"], grid.encode(source[order[:200]]))
    assert torch.equal(tensors["validation"], grid.encode(source[order[200:300]]))


@pytest.mark.parametrize("levels", [2, 64, 256])
def test_levels_stay_on_the_grid(levels):
    tensors, found, _ = BreastCancer(levels=levels).prepare()
    assert found == levels
    for name in (*SPLITS, "ood/shuffled-columns"):
        assert tensors[name].dtype == torch.uint8
        assert tensors[name].max() <= levels - 1
        assert torch.equal(quantise(to_pixels(tensors[name], levels), levels), tensors[name])


def test_training_columns_are_uniform(table):
    """The mean of a uniform grid is 127.5 and of ranks exactly so; its deviation 255/√12, less where values repeat."""
    train = table["train"].double()
    assert (train.mean(0) - 127.5).abs().max() < 0.5
    assert (train.std(0) - 255 / 12**0.5).abs().max() < 2


def test_preparation_depends_on_the_split_seed_only(table):
    torch.manual_seed(1)
    np.random.seed(1)
    again, _, facts = BreastCancer().prepare()
    assert again.keys() == table.keys()
    assert all(torch.equal(again[name], table[name]) for name in table)
    assert len(facts["columns"]) == 30
    other, _, _ = BreastCancer(split_seed=1).prepare()
    assert not torch.equal(other["train"], table["train"])


def test_held_out_rows_do_not_affect_the_transform(table, monkeypatch):
    """If every held-out row changes, the training split is bit-identical."""
    source = load_breast_cancer()
    order = torch.randperm(569, generator=make_rng("breast-cancer", "split", 0)).numpy()
    source.data[order[:300]] = source.data[order[:300]] * 100 - 7
    monkeypatch.setattr(breast_cancer, "load_breast_cancer", lambda: source)
    changed, _, _ = BreastCancer().prepare()
    assert torch.equal(changed["train"], table["train"])
    assert not torch.equal(changed["test"], table["test"])


@pytest.mark.parametrize("counts", [(300, 269), (1, 567)])
def test_counts_that_leave_nothing_to_train_on_are_refused(counts):
    with pytest.raises(JebmError, match=rf"validation_count \+ test_count is {sum(counts)}"):
        BreastCancer(validation_count=counts[0], test_count=counts[1]).prepare()


# The grid ------------------------------------------------------------------------------------------------------------


def test_quantiles_by_hand():
    """Five training values on five levels are their ranks; ties share the middle; what lies outside is clamped."""
    grid = QuantileGrid(np.array([[3.0, 0], [1, 0], [2, 0], [5, 1], [4, 1]]), 5)
    assert grid.encode(np.array([[1.0, 0], [2, 1], [3.4, -9], [5, 9], [-1, 0.5]])).tolist() == [
        [0, 1], [1, 4], [2, 1], [4, 4], [0, 2],
    ]  # fmt: skip


def test_decoding_inverts_encoding_to_half_a_level():
    """A value comes back within the training values half a level to either side of its quantile."""
    rng = make_rng("grid")
    rows = torch.randn(400, 3, generator=rng).exp().double().numpy()
    grid = QuantileGrid(rows, 101)
    fresh = torch.randn(200, 3, generator=rng).exp().double().numpy().clip(rows.min(0), rows.max(0))
    back = grid.decode(grid.encode(fresh))
    for column in range(3):
        ordered = np.sort(rows[:, column])
        quantile = np.interp(fresh[:, column], ordered, np.linspace(0, 1, 400))
        low, high = (np.interp(quantile + shift, np.linspace(0, 1, 400), ordered) for shift in (-0.0051, 0.0051))
        assert ((back[:, column] >= low) & (back[:, column] <= high)).all()


def test_grid_levels_come_back_exactly_where_values_are_distinct():
    rows = torch.randn(256, 2, generator=make_rng("distinct")).double().numpy()
    levels = torch.arange(256, dtype=torch.uint8).unsqueeze(1).expand(-1, 2)
    assert torch.equal(QuantileGrid(rows, 256).encode(QuantileGrid(rows, 256).decode(levels)), levels)


# Shuffled columns ----------------------------------------------------------------------------------------------------


def test_shuffling_preserves_marginals_and_removes_dependence(table):
    test, shuffled = table["test"], table["ood/shuffled-columns"]
    assert torch.equal(test.sort(0).values, shuffled.sort(0).values)
    off = ~torch.eye(30, dtype=torch.bool)
    before, after = (torch.corrcoef(rows.T.double())[off].abs() for rows in (test, shuffled))
    # Independent columns: correlations of standard deviation 1/√200; five of these bound the largest of 435.
    assert after.max() < 5 * 200**-0.5
    assert before.mean() > 4 * after.mean()


def test_columns_are_shuffled_independently():
    rows = torch.arange(50).unsqueeze(1).expand(-1, 4)
    shuffled = shuffle_columns(rows, make_rng("shuffle"))
    assert len({tuple(column.tolist()) for column in shuffled.T}) == 4
