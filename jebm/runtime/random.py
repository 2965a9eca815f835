"""Random number generators: explicit ``torch.Generator`` objects, each seeded by its purpose."""

import hashlib

import torch


def derive_seed(*parts: object) -> int:
    """A 32-bit seed that depends on all parts (the seed of a run, a purpose, an identity …) and on nothing else."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:4])


def make_rng(*parts: object, device: str = "cpu") -> torch.Generator:
    """A new generator, seeded by :func:`derive_seed` of the parts."""
    return torch.Generator(device).manual_seed(derive_seed(*parts))
