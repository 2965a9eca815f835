"""A subject small enough to know all about: two latent dimensions, four pixels, which are their own features."""

import pytest
import torch
from oracles import mild_prior

from jebm.data.dataset import Dataset
from jebm.evaluations.base import Subject
from jebm.features.identity import Identity
from jebm.io.filenames import IMAGES
from jebm.runtime.random import make_rng


@pytest.fixture
def subject():
    hierarchy, prior = mild_prior()
    images = torch.randint(0, 17, (60, 1, 2, 2), generator=make_rng("images"), dtype=torch.uint8)
    data = Dataset(
        {"train": images.flip(0), "test": images}, {"levels": 17, "image_shape": [1, 2, 2], "sha256": {IMAGES: "0"}}
    )
    return Subject(data, hierarchy, prior, Identity((1, 2, 2), 0), make_rng, "cpu", "trial")
