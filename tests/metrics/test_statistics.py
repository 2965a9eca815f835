"""Moments that are collected batch by batch, and the Fréchet distance between them."""

import warnings

import numpy as np
import pytest
import torch
from cleanfid.fid import frechet_distance

from jebm.errors import JebmError
from jebm.metrics.statistics import Statistics, chosen_rows, frechet_of, gather, trace_of_root
from jebm.runtime.random import make_rng


def normal(rows, columns, *purpose):
    return torch.randn(rows, columns, generator=make_rng("statistics", *purpose))


def statistics(features, batch=64, keep=10):
    return gather(features.split(batch), len(features), keep)


def given(mean, covariance, count=1000):
    covariance = np.asarray(covariance, float)
    return Statistics(count, np.asarray(mean, float), covariance, np.zeros((0, len(covariance))))


def by_clean_fid(first, second):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return frechet_distance(first.mean, first.covariance, second.mean, second.covariance)


@pytest.mark.parametrize("batch", [1, 7, 64, 500])
def test_moments_are_those_of_all_features_at_once(batch):
    """Far from 0, where sums of squares would cancel: the sd is 10⁻⁵ of the mean."""
    features = 1000 + 0.01 * normal(137, 5, "far").double()
    found = statistics(features, batch)
    np.testing.assert_allclose(found.mean, features.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(features.numpy(), rowvar=False), rtol=1e-8, atol=1e-14)


def test_kept_features_are_a_repeatable_choice_in_order_and_all_where_they_are_few():
    features = normal(50, 3)
    kept = statistics(features, 7, keep=20).kept
    np.testing.assert_array_equal(kept, features[chosen_rows(50, 20)].numpy())
    assert chosen_rows(50, 20).sum() == 20
    assert not chosen_rows(50, 20)[:20].all()
    np.testing.assert_array_equal(kept, statistics(features, 50, keep=20).kept)
    np.testing.assert_array_equal(statistics(features, 7, keep=50).kept, features.numpy())


def test_features_that_are_not_finite_are_refused():
    features = normal(30, 3)
    features[17, 1] = float("nan")
    with pytest.raises(JebmError, match=r"features of 1 of 10 images are not finite \(from image 10\)"):
        statistics(features, 10)


def test_one_image_has_no_covariance():
    with pytest.raises(JebmError, match="1 images are too few"):
        statistics(normal(1, 3))


def test_frechet_of_diagonal_gaussians_is_the_closed_form():
    first, second = given([0, 0, 3], np.diag([1.0, 4, 9])), given([1, 0, 0], np.diag([4.0, 4, 1]))
    assert frechet_of(first, second) == pytest.approx(1 + 9 + 1 + 0 + 4, rel=1e-12)


def test_frechet_of_a_set_to_itself_is_zero():
    found = statistics(normal(100, 8, "same"))
    assert frechet_of(found, found) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("scales", [np.ones(12), np.logspace(-5, 3, 12)], ids=["well", "ill"])
def test_frechet_agrees_with_clean_fid_on_covariances_of_full_rank(scales):
    first = statistics(normal(300, 12, "a").double() * torch.from_numpy(scales))
    second = statistics(normal(200, 12, "b").double() @ normal(12, 12, "mix").double() + 0.3)
    assert frechet_of(first, second) == pytest.approx(by_clean_fid(first, second), rel=1e-8)


def test_frechet_agrees_with_clean_fid_on_covariances_that_lack_ranks():
    """Fewer images than features, and features that depend on others; clean-fid's root is itself good to 10⁻⁷ then."""
    few, other = statistics(normal(15, 40, "few")), statistics(2 * normal(12, 40, "others"))
    flat = statistics(normal(200, 6, "flat") @ normal(6, 40, "directions"))
    for first, second in [(few, other), (few, flat), (flat, statistics(normal(300, 40, "full")))]:
        assert frechet_of(first, second, allow_singular=True) == pytest.approx(by_clean_fid(first, second), rel=1e-6)


def test_trace_of_root_of_covariances_of_one_rank_is_known():
    """C = a aᵀ and D = b bᵀ: C D has the one eigenvalue (a·b)²."""
    a, b = normal(1, 30, "one").double().numpy()[0], normal(1, 30, "two").double().numpy()[0]
    assert trace_of_root(np.outer(a, a), np.outer(b, b)) == pytest.approx(abs(a @ b), rel=1e-10)


def test_features_that_never_vary_change_nothing_and_need_no_images():
    first, second = normal(40, 6, "x"), normal(50, 6, "y") + 1
    padded = [statistics(torch.cat([x, torch.zeros(len(x), 100)], 1)) for x in (first, second)]
    assert padded[0].varying == 6
    assert frechet_of(*padded) == pytest.approx(frechet_of(statistics(first), statistics(second)), rel=1e-12)
    constant = statistics(torch.ones(10, 106))
    assert frechet_of(constant, padded[0]) == pytest.approx(
        np.square(1 - padded[0].mean).sum() + np.trace(padded[0].covariance), rel=1e-12
    )


def test_too_few_images_are_refused_unless_that_is_allowed():
    few, many = statistics(normal(8, 8, "8")), statistics(normal(100, 8, "100"))
    with pytest.raises(JebmError, match=r"8 images are too few for a covariance of 8 features.*allow_singular"):
        frechet_of(few, many)
    with pytest.raises(JebmError, match="8 images are too few"):
        frechet_of(many, few)
    assert frechet_of(few, many, allow_singular=True) > 0
