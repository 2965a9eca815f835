"""The operations inside the cells, by the names that published settings give to their combinations."""

from typing import NamedTuple


class Simple(NamedTuple):
    """(Batch norm →) activation → 3×3 weight-normalised convolution."""

    activation: str = "swish"
    norm: bool = True
    dilation: int = 1


class Bottleneck(NamedTuple):
    """Batch norm → 1×1 to ``expansion`` times the channels → k×k, depthwise or in ``groups`` → 1×1, with batch norm
    and swish between."""

    expansion: int
    kernel: int
    groups: int | None = None
    """None: depthwise."""


class Architecture(NamedTuple):
    """The operations of each kind of cell, in order."""

    encoder: tuple
    decoder: tuple
    preprocess: tuple
    postprocess: tuple


def _same(operation: Simple) -> Architecture:
    return Architecture(*[(operation, operation)] * 4)


def _wide(first: int, second: int) -> Architecture:
    """Encoder cells with dilated convolutions."""
    up = (Simple(dilation=first), Simple(dilation=second))
    return Architecture(up, (Bottleneck(6, 5),), up, (Bottleneck(3, 5),))


_SWISH = (Simple(), Simple())

ARCHITECTURES: dict[str, Architecture] = {
    "res_mbconv": Architecture(_SWISH, (Bottleneck(6, 5),), _SWISH, (Bottleneck(3, 5),)),
    "res_elu": _same(Simple("elu", norm=False)),
    "res_bnelu": _same(Simple("elu")),
    "res_bnswish": _same(Simple()),
    "mbconv_sep": Architecture(*[(Bottleneck(6, 5),)] * 2, *[(Bottleneck(3, 5),)] * 2),
    "mbconv_sep11": Architecture(*[(Bottleneck(6, 11),)] * 2, *[(Bottleneck(3, 5),)] * 2),
    "res53_mbconv": _wide(2, 1),
    "res35_mbconv": _wide(1, 2),
    "res55_mbconv": _wide(2, 2),
    "mbconv_res": Architecture((Bottleneck(6, 5),), _SWISH, (Bottleneck(3, 5),), _SWISH),
    "mbconv_den": Architecture(*[(Bottleneck(6, 5),)] * 2, *[(Bottleneck(3, 5, 8),)] * 2),
}
