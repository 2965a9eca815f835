"""Walks along single dimensions, on a linear hierarchy in which it is known what each does to the image."""

import torch
from oracles import LinearHierarchy

from jebm.steps.draw_samples import decode_images
from jebm.steps.resample_layers import FAR, PLACES, TRIED, WALKS, _walks

LEVELS = 256


def linear():
    """The coordinates of z_1 change one pixel each, by more and more; z_2 does nothing."""
    hierarchy = LinearHierarchy((4, 2))
    hierarchy.maps, hierarchy.offsets = [torch.zeros(4, 2)], [torch.zeros(4)]
    hierarchy.scales, hierarchy.decoder = [torch.ones(4)], torch.diag(torch.tensor([0.05, 0.3, 0.1, 0.2]))
    return hierarchy


def test_walks_lead_along_the_dimensions_that_change_the_image_most():
    hierarchy, eps = linear(), torch.zeros(1, 6)
    walks = _walks(hierarchy, eps, 0, 4, LEVELS)
    assert walks.shape == (WALKS, PLACES, 1, 1, 4)
    changed = [(walk[-1] != walk[0]).flatten().nonzero().flatten().tolist() for walk in walks]
    assert changed == [[1], [3], [2]]


def test_a_walk_goes_through_the_sample_from_end_to_end():
    hierarchy = linear()
    eps = torch.zeros(1, 6)
    walk = _walks(hierarchy, eps, 0, 4, LEVELS)[0]
    assert torch.equal(walk[PLACES // 2], decode_images(hierarchy, eps, LEVELS)[0])
    ends = eps.repeat(2, 1)
    ends[:, 1] = torch.tensor([-FAR, FAR])
    assert torch.equal(walk[[0, -1]], decode_images(hierarchy, ends, LEVELS))


def test_of_a_large_layer_the_first_dimensions_are_tried():
    hierarchy = LinearHierarchy((TRIED + 1,))
    hierarchy.decoder = torch.zeros(4, TRIED + 1)
    hierarchy.decoder[0, TRIED] = 0.3  # the one that is not tried
    hierarchy.decoder[1, 5] = 0.2
    walks = _walks(hierarchy, torch.zeros(1, TRIED + 1), 0, TRIED + 1, LEVELS)
    assert (walks[0, -1] != walks[0, 0]).flatten().tolist() == [False, True, False, False]
