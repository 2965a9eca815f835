"""Leaving a term of f out, on a linear-Gaussian model where every sub-density is known."""

import pytest
import torch
from measured import by_name
from oracles import LinearHierarchy, joint_prior
from torch import nn

from jebm.data.dataset import Dataset
from jebm.evaluations.base import Subject
from jebm.evaluations.terms import Terms
from jebm.features.identity import Identity
from jebm.metrics.records import MetricRecord
from jebm.runtime.random import generator
from jebm.sampling.partition import choose


class Shift(nn.Module):
    """f_i = slope_i · ε-like latent of layer i: in whitened, independent layers it moves that layer's mean by slope."""

    def __init__(self, slopes):
        super().__init__()
        self.slopes = slopes
        self.nets = {str(i + 1): None for i in range(len(slopes))}

    def terms(self, top):
        return torch.stack([slope * z.sum(1) for slope, z in zip(self.slopes, top.z, strict=True)], 1)

    def forward(self, top):
        return self.terms(top).sum(1)


@pytest.fixture(scope="module")
def measured():
    """Two independent layers of one dimension; f moves the bottom one by 1.5, the top one, which is not seen, by 1."""
    hierarchy = LinearHierarchy((1, 1), pixels=2, sigma=0.05)
    hierarchy.maps, hierarchy.offsets = [torch.zeros(1, 1)], [torch.zeros(1)]
    hierarchy.scales, hierarchy.decoder = [torch.ones(1)], torch.tensor([[0.2], [0.1]])
    prior = joint_prior(hierarchy)
    prior.energy = Shift([1.5, 1.0])
    stream = generator("terms data")
    shifted = torch.randn(5000, 1, generator=stream) + 1.5
    levels = 201
    images = ((shifted @ hierarchy.decoder.T + 1) * (levels - 1) / 2).round().clamp(0, 200).to(torch.uint8)
    data = Dataset(
        {"test": images.reshape(-1, 1, 1, 2)},
        {"levels": levels, "image_shape": [1, 1, 2], "sha256": {"images.safetensors": "x"}},
    )
    subject = Subject(
        data, hierarchy, prior, Identity((1, 1, 2), 0), lambda purpose: generator("terms", purpose), "cpu", "test"
    )
    record = MetricRecord(1)
    Terms(pool=60_000, count=20_000).evaluate(subject, record)
    return by_name(record.values)


def test_whole_density_matches_and_the_term_that_moves_the_image_is_missed(measured):
    squared_shift = 1.5**2 * (0.2**2 + 0.1**2)
    assert measured["fd_without none"] < 0.003
    assert measured["fd_without z1"] == pytest.approx(squared_shift, rel=0.05)
    assert measured["fd_without z2"] < 0.003


def test_term_alone(measured):
    assert measured["fd_with_only z1"] < 0.003
    assert measured["fd_with_only z2"] == pytest.approx(1.5**2 * (0.2**2 + 0.1**2), rel=0.05)


def test_effective_fraction_of_a_shift_is_known(measured):
    """For w = exp(s ε): (E w)² / E w² = exp(−s²)."""
    assert measured["ess_without z1"] == pytest.approx(2.718 ** -(1.0**2), rel=0.1)
    assert measured["ess_without z2"] == pytest.approx(2.718 ** -(1.5**2), rel=0.2)


def test_gap_is_of_posterior_against_gaussian_draws(measured):
    """The images are of ε_1 ~ N(1.5, 1): E f_1 is 1.5 · 1.5 on the posterior, 0 on the Gaussian prior."""
    assert measured["term_gap z1"] == pytest.approx(2.25, abs=0.15)
    assert measured["term_gap z2"] == pytest.approx(0, abs=0.1)


def test_systematic_resampling_keeps_the_proportions():
    eps = torch.arange(4.0).unsqueeze(1)
    drawn = choose(eps, torch.tensor([0.1, 0.2, 0.3, 0.4]).log(), 1000, generator("choose"))
    assert [int((drawn == value).sum()) for value in range(4)] == pytest.approx([100, 200, 300, 400], abs=1)
