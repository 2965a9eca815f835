"""A small NVAE with random weights as a checkpoint in the published layout."""

import argparse
from pathlib import Path

import torch
from published_nvae import to_published
from pydantic import BaseModel

from jebm.models.backbones.nvae.hierarchy import NvaeHierarchy
from jebm.models.checkpoints.nvae_keys import RENAMED, read_settings
from jebm.runtime.random import make_rng


def save_tiny_nvae(path: Path, block: BaseModel, size: int, seed: int = 0) -> Path:
    """Write the checkpoint of a backbone (a ``backbone:`` block of params.yaml) for images of a size; returns it."""
    args = {published: getattr(block, ours) for published, ours in RENAMED.items()}
    equal = len(set(block.layers_per_scale)) == 1
    args |= {
        "dataset": "cifar10" if size == 32 else f"celeba_{size}",
        "num_postprocess_blocks": block.blocks,
        "num_latent_scales": len(block.layers_per_scale),
        "num_groups_per_scale": block.layers_per_scale[0],
        "ada_groups": not equal,
        "min_groups_per_scale": 1,
        "num_mixture_dec": getattr(block.likelihood, "components", 1),
        "num_x_bits": getattr(block.likelihood, "levels", 256).bit_length() - 1,
    }
    settings = read_settings(args)
    assert settings.backbone["layers_per_scale"] == block.layers_per_scale
    hierarchy = NvaeHierarchy(settings.image_shape, **settings.backbone)
    hierarchy.initialise(make_rng("tiny NVAE", seed))
    content = {
        "epoch": 400, "global_step": 78_000, "state_dict": to_published(hierarchy),
        "args": argparse.Namespace(**args, epochs=400, root="/data", distributed=True),
        "optimizer": {"state": {}, "param_groups": []}, "arch_instance": {},
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path
