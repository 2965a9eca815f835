"""The correspondence of keys and settings between published checkpoints and our backbone. It reads and writes no file.

A published file lists the cells and combiners of each tower in one sequence, with groups coarsest first. Our backbone
has them by layer, bottom first. ``key_map`` returns the complete correspondence of keys:

================================ ==============================================================================
ours                             published
================================ ==============================================================================
``start``                        ``prior_ftr0``
``stem``                         ``stem``
``preprocess.{i}``               ``pre_process.{i}``
``groups.{n}.encoder.{j}``       ``enc_tower.{t}``, t running over cells and combiners, bottom group first
``groups.{n}.merge``             ``enc_tower.{t}.conv``
``summit``                       ``enc0.1``
``groups.{n}.posterior``         ``enc_sampler.{k}``, k = number of groups above
``groups.{n}.prior``             ``dec_sampler.{k−1}.1``
``groups.{n}.flows.{j}.…``       ``nf_cells.{k·flows + j}.cell1`` (``forwards``) and ``cell2`` (``backwards``)
``groups.{n}.decoder.{j}``       ``dec_tower.{t}``, top group first
``groups.{n}.take``              ``dec_tower.{t}.conv``; ``stem_decoder`` where there is one group alone
``postprocess.{i}``              ``post_process.{i}``
``output``                       ``image_conditional.1``
``….log_gain``                   ``….log_weight_norm``
================================ ==============================================================================

Published files contain the ``weight`` of plain convolutions twice, the second time as ``weight_normalized``.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from jebm.errors import JebmError
from jebm.models.backbones.nvae.architectures import ARCHITECTURES
from jebm.models.backbones.nvae.cells import BottleneckOperation, Cell, GrowingSkip, ShrinkingSkip, SimpleOperation
from jebm.models.backbones.nvae.convolutions import Convolution, NormalisedConvolution
from jebm.models.backbones.nvae.flows import Flow
from jebm.models.backbones.nvae.hierarchy import NvaeHierarchy

ALIAS = "weight_normalized"
"""The second name of the weight of a plain convolution; it is missing in old files."""

Pairs = Iterator[tuple[nn.Module, str]]
"""Modules without children, with their published names."""


def key_map(hierarchy: NvaeHierarchy) -> dict[str, str]:
    """Published key → our key, in the published order. Two published keys of one tensor have the same value."""
    own = {id(module): name for name, module in hierarchy.named_modules()}
    keys = {"prior_ftr0": "start"}
    for module, prefix in _modules(hierarchy):
        # Both list parameters, then buffers, and both leave out the masks of flows.
        for name in module.state_dict():
            published = "log_weight_norm" if name == "log_gain" else name
            keys[f"{prefix}.{published}"] = f"{own[id(module)]}.{name}"
        if isinstance(module, Convolution) and not isinstance(module, NormalisedConvolution):
            keys[f"{prefix}.{ALIAS}"] = f"{own[id(module)]}.weight"
    return keys


def published_shapes(hierarchy: NvaeHierarchy) -> dict[str, tuple[int, ...]]:
    """Published key → shape, in the published order; the hierarchy may live on the meta device."""
    state = hierarchy.state_dict()
    return {published: tuple(state[own].shape) for published, own in key_map(hierarchy).items()}


def _modules(hierarchy: NvaeHierarchy) -> Pairs:
    groups, downwards = list(hierarchy.groups), list(reversed(hierarchy.groups))
    alone = len(groups) == 1
    yield hierarchy.stem, "stem"
    yield from _cells(hierarchy.preprocess, "pre_process")
    place = 0
    for group in groups:
        yield from _cells(group.encoder, "enc_tower", place)
        place += len(group.encoder)
        if group.merge is not None:
            yield group.merge, f"enc_tower.{place}.conv"
            place += 1
    yield hierarchy.summit, "enc0.1"
    for k, group in enumerate(downwards):
        yield group.posterior, f"enc_sampler.{k}"
    for k, group in enumerate(downwards[1:]):
        yield group.prior, f"dec_sampler.{k}.1"
    for number, flow in enumerate(flow for group in downwards for flow in group.flows):
        yield from _flow(flow, f"nf_cells.{number}")
    place = 0
    for group in downwards:
        yield from _cells(group.decoder, "dec_tower", place)
        place += len(group.decoder)
        yield group.take, "stem_decoder" if alone else f"dec_tower.{place}.conv"
        place += 1
    yield from _cells(hierarchy.postprocess, "post_process")
    yield hierarchy.output, "image_conditional.1"


def _cells(cells: nn.ModuleList, prefix: str, first: int = 0) -> Pairs:
    for number, cell in enumerate(cells):
        yield from _cell(cell, f"{prefix}.{first + number}")


def _cell(cell: Cell, prefix: str) -> Pairs:
    if isinstance(cell.skip, ShrinkingSkip):
        yield from ((conv, f"{prefix}.skip.conv_{i}") for i, conv in enumerate(cell.skip.convs, start=1))
    elif isinstance(cell.skip, GrowingSkip):
        yield cell.skip.conv, f"{prefix}.skip.1"
    for number, operation in enumerate(cell.operations):
        yield from _operation(operation, f"{prefix}._ops.{number}")
    if cell.squeeze is not None:
        yield cell.squeeze.reduce, f"{prefix}.se.se.0"
        yield cell.squeeze.expand, f"{prefix}.se.se.2"


def _operation(operation: SimpleOperation | BottleneckOperation, prefix: str) -> Pairs:
    if isinstance(operation, SimpleOperation):
        if operation.norm is not None:
            yield operation.norm, f"{prefix}.{'bn_act' if operation.spec.activation == 'swish' else 'bn.bn'}"
        yield operation.conv, f"{prefix}.conv_0"
        return
    first = int(operation.grows)  # index 0 is the upsampling
    yield operation.norm, f"{prefix}.conv.{first}.bn"
    yield operation.expand, f"{prefix}.conv.{first + 1}.conv.0"
    yield operation.norm_expand, f"{prefix}.conv.{first + 1}.conv.1"
    yield operation.mix, f"{prefix}.conv.{first + 2}.conv.0"
    yield operation.norm_mix, f"{prefix}.conv.{first + 2}.conv.1"
    yield operation.project, f"{prefix}.conv.{first + 3}"
    yield operation.norm_project, f"{prefix}.conv.{first + 4}.bn"


def _flow(flow: Flow, prefix: str) -> Pairs:
    for number, shift in enumerate((flow.forwards, flow.backwards), start=1):
        yield shift.first, f"{prefix}.cell{number}.conv.convz.0"
        yield shift.spread, f"{prefix}.cell{number}.conv.convz.2"
        yield shift.last, f"{prefix}.cell{number}.mu.conv_0"


class Settings(NamedTuple):
    """The architecture that the settings in a published file describe."""

    image_shape: tuple[int, int, int]
    backbone: dict[str, Any]
    """The keyword arguments of :class:`NvaeHierarchy`."""
    levels: int | None
    """Number of levels of the images; None for binary images, which are −1 or 1."""


ASSUMED = {"ada_groups": False, "min_groups_per_scale": 1, "num_mixture_dec": 10}
"""Defaults of settings that are missing in old files."""
INTEGERS = {
    "num_latent_scales": 1, "num_groups_per_scale": 1, "min_groups_per_scale": 1, "num_latent_per_group": 1,
    "num_channels_enc": 1, "num_channels_dec": 1, "num_preprocess_blocks": 0, "num_preprocess_cells": 1,
    "num_postprocess_blocks": 0, "num_postprocess_cells": 1, "num_cell_per_cond_enc": 1, "num_cell_per_cond_dec": 1,
    "num_mixture_dec": 1, "num_nf": 0, "num_x_bits": 1,
}  # fmt: skip
"""Integer settings and their lower bounds."""
MAX_INTEGER = 1024
"""Upper bound of integer settings. It protects against exhausting the memory with the settings of a damaged file."""
RENAMED = {
    "num_latent_per_group": "latent_channels",
    "num_channels_enc": "encoder_channels",
    "num_channels_dec": "decoder_channels",
    "num_preprocess_blocks": "blocks",
    "num_preprocess_cells": "preprocess_cells",
    "num_postprocess_cells": "postprocess_cells",
    "num_cell_per_cond_enc": "encoder_cells",
    "num_cell_per_cond_dec": "decoder_cells",
    "arch_instance": "architecture",
    "use_se": "squeeze_excite",
    "res_dist": "residual_posterior",
    "num_nf": "flows",
}
"""Published setting → our parameter of the same value."""
BINARY = ("mnist", "omniglot")
"""Datasets of one channel, 28×28 padded to 32×32, with a Bernoulli likelihood."""


def read_settings(args: dict[str, Any]) -> Settings:
    """The backbone that published settings describe.

    Raises:
        JebmError: a setting is missing, of the wrong type, or unsupported.
    """
    args = {**ASSUMED, **args}
    for key, least in INTEGERS.items():
        value = _setting(args, key)
        if type(value) is not int or not least <= value <= MAX_INTEGER:
            raise JebmError(f"its setting {key} is {value!r}, not a whole number from {least} to {MAX_INTEGER}")
    for key in ("ada_groups", "use_se", "res_dist"):
        if type(_setting(args, key)) is not bool:
            raise JebmError(f"its setting {key} is {args[key]!r}, neither True nor False")
    if _setting(args, "arch_instance") not in ARCHITECTURES:
        raise JebmError(f"its setting arch_instance is {args['arch_instance']!r}; known: {', '.join(ARCHITECTURES)}")
    if args["num_preprocess_blocks"] != args["num_postprocess_blocks"]:
        raise JebmError(
            f"it has {args['num_preprocess_blocks']} preprocessing blocks and {args['num_postprocess_blocks']} "
            "postprocessing blocks; its images would not come out at the size that they went in"
        )
    if args["num_x_bits"] > 8 or args["num_latent_scales"] > 10:
        key = "num_x_bits" if args["num_x_bits"] > 8 else "num_latent_scales"
        raise JebmError(f"its setting {key} is {args[key]}; at most {8 if key == 'num_x_bits' else 10}")
    size, colours = _image(_setting(args, "dataset"))
    backbone = {ours: args[published] for published, ours in RENAMED.items()}
    backbone["layers_per_scale"] = layers_per_scale(args)
    backbone["padding"] = 2 if args["dataset"] in BINARY else 0
    backbone["likelihood"] = _likelihood(args)
    levels = None if args["dataset"] in BINARY else 2 ** args["num_x_bits"]
    return Settings((colours, size, size), backbone, levels)


def _setting(args: dict[str, Any], key: str) -> Any:
    if key not in args:
        raise JebmError(f"its settings lack {key}")
    return args[key]


def _likelihood(args: dict[str, Any]) -> dict[str, Any]:
    if args["dataset"] in BINARY:
        return {"name": "bernoulli"}
    if args["num_mixture_dec"] == 1:
        return {"name": "heteroscedastic-gaussian"}
    levels = 2 ** args["num_x_bits"]
    return {"name": "nvae-logistic-mixture", "levels": levels, "components": args["num_mixture_dec"]}


def layers_per_scale(args: dict[str, Any]) -> list[int]:
    """Layers per scale, finest first: the same number, or, with ``ada_groups``, half the number of the finer scale."""
    counts = [args["num_groups_per_scale"]]
    for _ in range(args["num_latent_scales"] - 1):
        counts.append(max(args["min_groups_per_scale"], counts[-1] // 2) if args["ada_groups"] else counts[-1])
    return counts


def _image(dataset: Any) -> tuple[int, int]:
    """Size, without padding, and number of channels of the images of a dataset, by its published name."""
    known = {"mnist": (28, 1), "omniglot": (28, 1), "cifar10": (32, 3), "ffhq": (256, 3)}
    if dataset in known:
        return known[dataset]
    family, _, size = str(dataset).rpartition("_")
    if family.split("_")[0] in ("celeba", "imagenet", "lsun") and size.isdecimal() and 0 < int(size) <= MAX_INTEGER:
        return int(size), 3
    raise JebmError(f"its setting dataset is {dataset!r}, of which neither size nor colours of the images are known")
