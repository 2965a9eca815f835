"""Integers converted to floats per batch: values, random flips, and where the integers are stored."""

import pytest
import torch

from jebm.data.batches import Pixels, batches, random_flip
from jebm.data.dataset import to_pixels
from jebm.runtime.random import make_rng

IMAGES = torch.randint(17, (23, 3, 4, 6), generator=make_rng("pixels"), dtype=torch.uint8)


def test_batches_are_those_of_the_whole_split_to_the_bit():
    pixels, whole = Pixels(IMAGES, 17), to_pixels(IMAGES, 17)
    index = torch.tensor([4, 22, 0, 4])
    assert len(pixels) == 23
    assert torch.equal(pixels[index], whole[index])
    assert torch.equal(pixels[3:9], whole[3:9])
    assert [len(x) for x in batches(pixels, 10)] == [10, 10, 3]
    assert torch.equal(torch.cat(list(batches(pixels, 10))), whole)


def test_flips_mirror_half_of_the_images_and_repeat_with_the_rng():
    images = torch.arange(6, dtype=torch.uint8).expand(4000, 1, 2, 6)
    pixels = Pixels(images, 256, flips=make_rng("flips"))
    x = pixels[torch.arange(4000)]
    mirrored = x[:, 0, 0, 0] > x[:, 0, 0, 5]
    plain = to_pixels(images, 256)
    assert torch.equal(x[mirrored], plain[mirrored].flip(-1))
    assert torch.equal(x[~mirrored], plain[~mirrored])
    assert abs(mirrored.float().mean() - 0.5) < 0.04  # five standard errors
    again = Pixels(images, 256, flips=make_rng("flips"))
    assert torch.equal(again[torch.arange(4000)], x)
    assert not torch.equal(again[torch.arange(4000)], x)  # each access draws new flips


def test_flips_take_any_shape():
    assert random_flip(torch.rand(5, 30), make_rng("flips")).shape == (5, 30)


def test_without_flips_no_random_number_is_drawn():
    rng = make_rng("flips")
    before = rng.get_state()
    Pixels(IMAGES, 17)[torch.arange(3)]
    assert torch.equal(rng.get_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("on_device", [True, False, None])
def test_where_the_images_lie_changes_no_value(on_device):
    pixels = Pixels(IMAGES, 17, "cuda", on_device=on_device)
    assert pixels.images.is_cuda == (on_device is not False)
    for index in (torch.tensor([4, 22, 0], device="cuda"), torch.tensor([4, 22, 0]), slice(2, 9)):
        assert pixels[index].is_cuda
        assert torch.equal(
            pixels[index].cpu(), Pixels(IMAGES, 17)[index.cpu() if isinstance(index, torch.Tensor) else index]
        )
