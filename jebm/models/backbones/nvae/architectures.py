"""The operations inside the cells; their combinations have the names of the published settings."""

from typing import NamedTuple


class Simple(NamedTuple):
    """(Batch norm →) activation → 3×3 weight-normalised convolution."""

    activation: str = "swish"
    norm: bool = True
    dilation: int = 1


class Bottleneck(NamedTuple):
    """Batch norm, then a 1×1 convolution to ``expansion`` times the channels, a k×k convolution, depthwise or in
    ``groups``, and a 1×1 convolution, with batch norm and swish in between."""

    expansion: int
    kernel: int
    groups: int | None = None
    """None: depthwise."""


class Architecture(NamedTuple):
    """The sequence of operations in each kind of cell."""

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
