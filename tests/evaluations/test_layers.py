"""Layer by layer: KL and active units against what is known, the probe against what is there to be read."""

import pytest
import torch
from measured import by_name
from oracles import LinearHierarchy

from jebm.data.dataset import Dataset
from jebm.evaluations.base import Subject
from jebm.evaluations.layers import Layers
from jebm.features.identity import Identity
from jebm.metrics.records import MetricRecord
from jebm.models.priors.gaussian import GaussianPrior
from jebm.runtime.random import make_rng


class BlindTop(LinearHierarchy):
    """The bottom layer's exact posterior; a top layer that the data do not reach."""

    def __init__(self):
        super().__init__((2, 3), sigma=0.2)
        self.maps = [torch.zeros_like(weight) for weight in self.maps]


@pytest.fixture(scope="module")
def measured():
    rng = make_rng("layers data")
    images = {split: torch.randint(17, (400, 1, 1, 4), generator=rng, dtype=torch.uint8) for split in ("train", "test")}
    # The class is what the first pixel says.
    labels = {f"{split}_labels": (x[:, 0, 0, 0] > 8).long() for split, x in images.items()}
    manifest = {"levels": 17, "image_shape": [1, 1, 4], "sha256": {"images.safetensors": "x"}}
    hierarchy = BlindTop()
    hierarchy.decoder = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    subject = Subject(
        Dataset({**images, **labels}, manifest), hierarchy, GaussianPrior(hierarchy), Identity((1, 1, 4), 2),
        lambda purpose: make_rng("layers", purpose), "cpu", "test",
    )  # fmt: skip
    record = MetricRecord(1)
    arrays = Layers(draws=30).evaluate(subject, record)
    return by_name(record.values) | arrays


def test_units_that_the_data_move_are_active_and_no_others(measured):
    assert measured["active_units z1"] == 2
    assert measured["active_units z2"] == 0


def test_kl_of_a_layer_that_the_data_do_not_reach_is_zero(measured):
    assert measured["kl z2"] == pytest.approx(0, abs=1e-6)
    assert measured["kl z1"] > 2
    assert measured["kl_smallest"] == measured["kl z2"]
    assert measured["kl_total"] == pytest.approx(measured["kl z1"] + measured["kl z2"])


def test_probe_reads_the_class_where_it_is(measured):
    assert measured["probe z1"] > 0.95
    assert measured["probe z2"] < 0.65


def test_means_of_a_top_layer_that_the_data_do_not_reach_are_noise_around_zero(measured):
    """The mean of 30 draws from N(0, I)."""
    assert measured["means/top"].shape == (400, 3)
    assert float(measured["means/top"].var()) == pytest.approx(1 / 30, rel=0.2)
