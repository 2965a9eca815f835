"""The shape of one item, from the parameters alone, as the data have it."""

import pytest

from jebm.config.components import build
from jebm.config.read import read_params
from jebm.pipeline.item_shape import item_shape
from jebm.pipeline.study import make_plan

SHAPES = {
    "digits": (1, 8, 8), "tabular": (30,), "mnist": (1, 28, 28), "cifar10": (3, 32, 32), "celeba64": (3, 64, 64),
}  # fmt: skip


@pytest.mark.parametrize("study", SHAPES)
def test_shape_is_that_of_the_data(study):
    plan = make_plan(read_params())[study]
    dataset = next(iter(plan.variants.values())).params.dataset
    assert item_shape(dataset) == SHAPES[study]


@pytest.mark.parametrize("study", ["digits", "tabular"])
def test_stated_shape_is_that_of_the_prepared_data(study):
    splits, *_ = build("dataset", make_plan(read_params())[study].study.variants["gaussian"].dataset).prepare()
    assert tuple(splits["train"].shape[1:]) == SHAPES[study]
