"""Random number generators differ in every part of their purpose."""

import torch

from jebm.runtime.random import derive_seed, make_rng


def test_seed_is_stable():
    """Every number of the study depends on this value."""
    assert derive_seed("digits", 0, "train") == 1548473107


def test_rng_repeats_and_differs_by_every_part():
    draw = torch.rand(4, generator=make_rng("a", 0, "b"))
    assert torch.equal(torch.rand(4, generator=make_rng("a", 0, "b")), draw)
    for parts in (("a", 1, "b"), ("a", 0, "c"), ("c", 0, "b"), ("a", 0)):
        assert not torch.equal(torch.rand(4, generator=make_rng(*parts)), draw)


def test_make_rng_does_not_change_the_global_rng():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    make_rng("x").seed()
    torch.rand(5, generator=make_rng("y"))
    assert torch.equal(torch.rand(2), expected)
