"""The digits: splits, sets that are not digits, and what can't be asked for."""

import pytest
import torch
from sklearn.datasets import load_digits

from jebm.data.digits import LEVELS, OOD, Digits
from jebm.errors import JebmError
from jebm.registry import schema

ALL = list(OOD)


@pytest.fixture(scope="module")
def digits():
    tensors, _, _ = Digits(ood_sets=ALL, ood_count=120).prepare()
    return tensors


def rows(images):
    return [bytes(image.flatten().tolist()) for image in images]


def test_splits_are_disjoint_and_cover_all_digits(digits):
    source = load_digits()
    together = torch.cat([digits[name] for name in ("train", "validation", "test")]).flatten(1)
    labels = torch.cat([digits[f"{name}_labels"] for name in ("train", "validation", "test")])
    found = sorted((bytes(image.tolist()), int(label)) for image, label in zip(together, labels, strict=True))
    expected = sorted(
        (bytes(i.astype("uint8").tolist()), int(t)) for i, t in zip(source.data, source.target, strict=True)
    )
    assert found == expected
    assert len(found) == 1797


def test_counts_shapes_and_values(digits):
    assert {name: len(digits[name]) for name in ("test", "validation", "train")} == {
        "test": 500, "validation": 200, "train": 1097,
    }  # fmt: skip
    for name, images in digits.items():
        if not name.endswith("_labels"):
            assert images.shape[1:] == (1, 8, 8)
            assert images.dtype == torch.uint8
            assert images.max() <= LEVELS - 1 == 16
    assert digits["train"].max() == 16
    assert digits["train"].min() == 0


def test_preparation_depends_on_the_split_seed_only(digits):
    torch.manual_seed(1)
    again, levels, facts = Digits(ood_sets=ALL, ood_count=120).prepare()
    assert levels == 17
    assert facts["split_seed"] == 0
    assert again.keys() == digits.keys()
    assert all(torch.equal(again[name], digits[name]) for name in digits)
    other, _, _ = Digits(split_seed=1, ood_sets=ALL, ood_count=120).prepare()
    assert not any(torch.equal(other[name], digits[name]) for name in digits)


def test_a_set_does_not_depend_on_which_others_are_made(digits):
    alone, _, _ = Digits(ood_sets=["overlay"], ood_count=120).prepare()
    assert torch.equal(alone["ood/overlay"], digits["ood/overlay"])
    assert "ood/patches" not in alone


def test_every_outlier_set_has_the_asked_count(digits):
    assert {name: len(digits[f"ood/{name}"]) for name in ALL} == dict.fromkeys(ALL, 120)


def test_schema_offers_exactly_the_sets_that_exist():
    allowed = schema("dataset").model_json_schema()["properties"]["ood_sets"]["items"]["enum"]
    assert sorted(allowed) == sorted(OOD)


def test_overlay_is_the_maximum_of_two_test_digits_of_different_classes(digits):
    test, labels = digits["test"].flatten(1), digits["test_labels"]
    for image in digits["ood/overlay"].flatten(1)[:60]:
        below = (test <= image).all(1).nonzero()[:, 0]  # the two it was made of are among these
        pairs = torch.maximum(test[below].unsqueeze(0), test[below].unsqueeze(1))
        made = (pairs == image).all(-1) & (labels[below].unsqueeze(0) != labels[below].unsqueeze(1))
        assert made.any()


def test_half_mix_joins_halves_of_two_test_digits_of_different_classes(digits):
    test, labels = digits["test"], digits["test_labels"]
    for image in digits["ood/half-mix"]:
        left = (test[..., :4] == image[..., :4]).flatten(1).all(1).nonzero()[:, 0]
        right = (test[..., 4:] == image[..., 4:]).flatten(1).all(1).nonzero()[:, 0]
        assert len(left)
        assert len(right)
        assert (labels[left].unsqueeze(0) != labels[right].unsqueeze(1)).any()


def test_vertical_flip_is_a_test_digit_upside_down_each_once(digits):
    flipped, test = rows(digits["ood/vertical-flip"].flip(-2)), rows(digits["test"])
    assert set(flipped) <= set(test)
    assert len(set(flipped)) == 120
    assert not set(rows(digits["ood/vertical-flip"])) <= set(test)


def test_constant_images_are_constant_and_of_many_levels(digits):
    images = digits["ood/constant"].flatten(1)
    assert torch.equal(images.min(1).values, images.max(1).values)
    assert len(images[:, 0].unique()) > 10


def test_uniform_noise_uses_all_levels_alike(digits):
    """χ² over 17 levels of 7,680 pixels: its mean is 16, its deviation √32; 5 deviations above."""
    counts = digits["ood/uniform"].flatten().long().bincount(minlength=17).double()
    expected = counts.sum() / 17
    assert len(counts) == 17
    assert ((counts - expected).square() / expected).sum() < 16 + 5 * 32**0.5


def test_patches_are_crops_of_photographs_not_digits(digits):
    patches = digits["ood/patches"]
    assert len(set(rows(patches))) > 60  # a patch of the sky is white
    step = (patches[..., 1:].float() - patches[..., :-1].float()).abs().mean()
    noise = (digits["ood/uniform"][..., 1:].float() - digits["ood/uniform"][..., :-1].float()).abs().mean()
    assert step < 0.4 * noise  # neighbouring pixels of photographs are alike


def test_more_outliers_than_test_digits_repeat_each_as_often():
    tensors, _, _ = Digits(test_count=40, ood_sets=["vertical-flip"], ood_count=100).prepare()
    flipped, times = rows(tensors["ood/vertical-flip"].flip(-2)), []
    for image in set(rows(tensors["test"])):
        times.append(flipped.count(image))
    assert sorted(set(times)) == [2, 3]
    assert sum(times) == 100


@pytest.mark.parametrize("counts", [(1000, 797), (1, 1797), (5000, 1)])
def test_counts_that_leave_nothing_to_train_on_are_refused(counts):
    with pytest.raises(JebmError, match=rf"dataset: validation_count \+ test_count is {sum(counts)}"):
        Digits(validation_count=counts[0], test_count=counts[1]).prepare()


def test_smallest_training_set_is_one_digit():
    tensors, _, _ = Digits(validation_count=896, test_count=900).prepare()
    assert len(tensors["train"]) == 1


@pytest.mark.timeout(3)
@pytest.mark.parametrize("name", ["overlay", "half-mix"])
def test_pairs_of_classes_from_too_few_test_digits_are_refused(name):
    with pytest.raises(JebmError, match="test_count"):
        Digits(test_count=1, ood_sets=[name], ood_count=4).prepare()
