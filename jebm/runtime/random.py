"""Random streams: every one is an explicit ``torch.Generator`` whose seed says what it is for."""

import hashlib

import torch


def derive_seed(*parts: object) -> int:
    """A seed that depends on all parts (a run's seed, a purpose, an identity …) and on nothing else."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:4])


def make_rng(*parts: object, device: str = "cpu") -> torch.Generator:
    """A stream of its own for whatever the parts name."""
    return torch.Generator(device).manual_seed(derive_seed(*parts))
