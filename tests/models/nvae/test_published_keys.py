"""All key lists of published recipes, key by key, shape by shape and in order, without allocating a weight.

The repository holds a digest of each; ``JEBM_NVAE_KEYS=published_keys.json.gz`` names the full lists, with which a
difference is named.
"""

import gzip
import json
import os
from pathlib import Path

import pytest
import torch
from make_excerpt import digest

from jebm.errors import JebmError
from jebm.models.backbones.nvae.architectures import ARCHITECTURES
from jebm.models.backbones.nvae.hierarchy import NvaeHierarchy
from jebm.models.checkpoints.nvae_keys import ALIAS, key_map, layers_per_scale, published_shapes, read_settings

RECIPES = json.loads((Path(__file__).parent / "published_keys.json").read_text(encoding="utf-8"))
FULL = os.environ.get("JEBM_NVAE_KEYS")


def on_meta(args):
    settings = read_settings(args)
    with torch.device("meta"):
        return NvaeHierarchy(settings.image_shape, **settings.backbone)


@pytest.mark.parametrize("name", RECIPES)
def test_keys_and_shapes(name):
    recipe = RECIPES[name]
    hierarchy = on_meta(recipe["args"])
    shapes = published_shapes(hierarchy)
    if FULL:
        with gzip.open(FULL) as file:
            recorded = json.load(file)[name]["keys"]
        assert {key: list(shape) for key, shape in shapes.items()} == recorded
    assert len(shapes) == recipe["keys"]
    assert sum(parameter.numel() for parameter in hierarchy.parameters()) == recipe["parameters"]
    assert digest(shapes) == recipe["digest"]


def test_digest_sees_shape_and_order():
    shapes = {"a": (1, 2), "b": (3,)}
    assert digest(shapes) != digest({"a": (2, 1), "b": (3,)})
    assert digest(shapes) != digest(dict(reversed(shapes.items())))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_a_complete_map(architecture):
    args = RECIPES["nvae_celeba64"]["args"] | {"arch_instance": architecture, "num_groups_per_scale": 2}
    hierarchy = on_meta(args)
    keys = key_map(hierarchy)
    once = [own for key, own in keys.items() if not key.endswith(ALIAS)]
    assert sorted(once) == sorted(hierarchy.state_dict())


def test_single_group_has_neither_tower():
    args = {**RECIPES["nvae_cifar10"]["args"], "num_groups_per_scale": 1, "num_nf": 0}
    keys = published_shapes(on_meta(args))
    assert {key.split(".")[0] for key in keys} == {
        "prior_ftr0", "stem", "pre_process", "enc0", "enc_sampler", "stem_decoder", "post_process", "image_conditional",
    }  # fmt: skip
    assert keys["stem_decoder.weight"] == (256, 20, 1, 1)


@pytest.mark.parametrize(
    ("args", "counts"),
    [
        ((16, 5, True, 4), [16, 8, 4, 4, 4]),
        ((20, 3, True, 1), [20, 10, 5]),
        ((3, 3, True, 1), [3, 1, 1]),
        ((5, 3, False, 1), [5, 5, 5]),
    ],
)
def test_layers_of_each_scale(args, counts):
    keys = ("num_groups_per_scale", "num_latent_scales", "ada_groups", "min_groups_per_scale")
    assert layers_per_scale(dict(zip(keys, args, strict=True))) == counts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_channels_enc": 0}, "num_channels_enc is 0, not a whole number from 1"),
        ({"num_nf": True}, "num_nf is True"),
        ({"num_latent_scales": "3"}, "num_latent_scales is '3'"),
        ({"num_groups_per_scale": 10**9}, "num_groups_per_scale is 1000000000"),
        ({"use_se": 1}, "use_se is 1, neither True nor False"),
        ({"arch_instance": "res_mbconv9"}, "arch_instance is 'res_mbconv9'; known: res_mbconv, "),
        ({"num_postprocess_blocks": 2}, "1 preprocessing blocks and 2 postprocessing"),
        ({"dataset": "stacked_mnist"}, "dataset is 'stacked_mnist'"),
        ({"dataset": "celeba_big"}, "dataset is 'celeba_big'"),
        ({"num_x_bits": 9}, "num_x_bits is 9; at most 8"),
    ],
)
def test_settings_that_describe_no_model_are_named(changes, message):
    with pytest.raises(JebmError, match=message):
        read_settings({**RECIPES["nvae_cifar10"]["args"], **changes})


def test_missing_setting_is_named_and_those_of_old_files_are_assumed():
    args = dict(RECIPES["nvae_cifar10"]["args"])
    for key in ("ada_groups", "min_groups_per_scale", "num_mixture_dec"):
        del args[key]
    assert read_settings(args) == read_settings(RECIPES["nvae_cifar10"]["args"])
    del args["num_nf"]
    with pytest.raises(JebmError, match="settings lack num_nf"):
        read_settings(args)
