"""A tiny NVAE in the form in which checkpoints were published, any part of which a test may change."""

import argparse

import torch

from jebm.models.backbones.nvae.hierarchy import NvaeHierarchy
from jebm.models.checkpoints.nvae_keys import key_map, read_settings
from jebm.runtime.random import make_rng

ARGS = {
    "dataset": "imagenet_8", "use_se": True, "res_dist": True, "num_x_bits": 5, "num_latent_scales": 2,
    "num_groups_per_scale": 2, "num_latent_per_group": 2, "ada_groups": True, "min_groups_per_scale": 1,
    "num_channels_enc": 4, "num_channels_dec": 6, "num_preprocess_blocks": 1, "num_preprocess_cells": 2,
    "num_cell_per_cond_enc": 1, "num_postprocess_blocks": 1, "num_postprocess_cells": 2, "num_cell_per_cond_dec": 1,
    "num_mixture_dec": 2, "num_nf": 1, "arch_instance": "res_mbconv",
}  # fmt: skip


def to_published(hierarchy):
    """The state dict of a hierarchy in the published layout."""
    state = hierarchy.state_dict()
    return {published: state[own] for published, own in key_map(hierarchy).items()}


def model(**changes):
    settings = read_settings(ARGS | changes)
    hierarchy = NvaeHierarchy(settings.image_shape, **settings.backbone)
    hierarchy.initialise(make_rng("checkpoint"))
    return hierarchy


def content(hierarchy=None, **changes):
    return {
        "epoch": 7, "global_step": 70, "state_dict": to_published(hierarchy or model(**changes)),
        "args": argparse.Namespace(**(ARGS | changes), seed=1, root="/data", distributed=True),
        "optimizer": {"state": {}, "param_groups": []}, "arch_instance": {"normal_enc": ["res_bnswish"]},
    }  # fmt: skip


def saved(folder, what, **options):
    path = folder / "checkpoint.pt"
    torch.save(what, path, **options)
    return path
