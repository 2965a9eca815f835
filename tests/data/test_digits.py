"""The digits: splits, out-of-distribution sets, and refused parameters."""

import pytest
import torch
from oracles import spec
from pydantic import TypeAdapter, ValidationError
from sklearn.datasets import load_digits

from jebm.config.components import schema
from jebm.data.dataset import load_dataset, save_dataset
from jebm.data.digits import LEVELS, OOD, Digits
from jebm.errors import JebmError
from jebm.features.classifier import Classifier
from jebm.runtime.random import make_rng

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
    definitions = TypeAdapter(schema("dataset")).json_schema()["$defs"]
    assert sorted(definitions["DigitsParameters"]["properties"]["ood_sets"]["items"]["enum"]) == sorted(OOD)


def test_overlay_is_the_maximum_of_two_test_digits_of_different_classes(digits):
    test, labels = digits["test"].flatten(1), digits["test_labels"]
    for image in digits["ood/overlay"].flatten(1)[:60]:
        below = (test <= image).all(1).nonzero()[:, 0]  # the two digits it was made of are among these
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


# A class held out ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held_out", [0, 1, 9])
def test_held_out_class_is_in_no_split_and_all_of_it_is_the_outlier_set(held_out):
    tensors, _, facts = Digits(held_out_class=held_out, validation_count=129, test_count=323).prepare()
    source = load_digits()
    labels = torch.cat([tensors[f"{name}_labels"] for name in ("train", "validation", "test")])
    assert sorted(labels.unique().tolist()) == [digit for digit in range(10) if digit != held_out]
    assert len(labels) == (source.target != held_out).sum()
    expected = torch.from_numpy(source.images[source.target == held_out]).to(torch.uint8).unsqueeze(1)
    assert torch.equal(tensors["ood/held-out"], expected)
    assert facts["held_out_class"] == held_out
    assert (len(tensors["validation"]), len(tensors["test"])) == (129, 323)


def test_held_out_class_is_in_no_set_that_is_made_of_digits():
    tensors, _, _ = Digits(held_out_class=1, ood_sets=["vertical-flip", "overlay"], ood_count=60).prepare()
    flipped = set(rows(tensors["ood/vertical-flip"].flip(-2)))
    assert flipped <= set(rows(tensors["test"]))
    assert not flipped & set(rows(tensors["ood/held-out"]))


def test_without_a_held_out_class_nothing_changes(digits):
    """The files of the study must keep their bytes: names, order and values of the tensors, and the facts."""
    tensors, _, facts = Digits(held_out_class=None, ood_sets=ALL, ood_count=120).prepare()
    assert list(tensors) == list(digits)
    assert all(torch.equal(tensors[name], digits[name]) for name in digits)
    assert set(facts) == {"source", "split_seed"}
    assert spec("dataset", name="digits", held_out_class=None).model_dump(exclude_defaults=True) == {"name": "digits"}


@pytest.mark.parametrize("wrong", [-1, 10, "1", 1.5, True])
def test_what_is_no_digit_is_refused(wrong):
    with pytest.raises(ValidationError, match="held_out_class"):
        spec("dataset", name="digits", held_out_class=wrong)


@pytest.mark.parametrize("held_out", [3, 9])
def test_classifier_learns_without_a_class(held_out, tmp_path):
    """Labels keep their numbers; without the 9 there is an output less, without the 3 one that is never right."""
    tensors, levels, facts = Digits(held_out_class=held_out, validation_count=129, test_count=323).prepare()
    save_dataset(tmp_path, tensors, levels, facts)
    data, rng = load_dataset(tmp_path), make_rng("classifier")
    assert data.manifest["classes"] == (9 if held_out == 9 else 10)
    classifier = Classifier(data.image_shape, data.manifest["classes"], channels=8)
    classifier.initialise(rng)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=4e-3)
    x, y = data.pixels("train"), data.labels("train")
    for _ in range(120):
        batch = torch.randint(len(x), (128,), generator=rng)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(classifier(x[batch]), y[batch]).backward()
        optimizer.step()
    predicted = classifier(data.pixels("test")).argmax(1)
    assert (predicted == data.labels("test")).float().mean() > 0.8  # by chance 0.11
    assert held_out not in predicted
