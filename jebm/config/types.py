"""Constrained types for parameters, shared by the schema and by the constructors of components.

A component (backbone, energy, prior, kernel, sampler, dataset) is configured by the keyword-only arguments of its
constructor. Their annotations are names from this module, so that ``jebm.config.components`` can read them without
importing the component, and with it torch.
"""

import os
import re
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PlainValidator


class Block(NamedTuple):
    """In an annotation: a nested ``{name: …, …}`` block, which configures any registered component of that kind."""

    kind: str
    optional: bool = False
    """Whether the block may be null."""


class Blocks(NamedTuple):
    """In an annotation: several blocks under labels of the user's choice, each with the parameters of one class."""

    target: str
    """``module:class``."""


class LabelledBlocks(NamedTuple):
    """In an annotation: any number of ``{name: …, …}`` blocks of one kind, under labels of the user's choice."""

    kind: str


class Marked(NamedTuple):
    """Marks the role of a parameter that checks or jobs must know and that its values do not show: the name of an
    external input, or a list with one entry per layer or scale."""

    what: str


ASSET, DATA_PATH = Marked("asset"), Marked("data path")
"""Names of external inputs, which the job reads besides the parameters."""
LAYERS, LAYERS_PER_SCALE, PER_SCALE = Marked("layers"), Marked("layers per scale"), Marked("per scale")
"""Lists with one entry per latent layer of the backbone, with the number of layers at each scale, or with another entry
per scale."""
CHOSEN_LAYERS, PER_CHOSEN_LAYER = Marked("chosen layers"), Marked("per chosen layer")
"""The layers that have an energy, and a setting that is either one value for all of these or a list with one per
layer."""

OptionalBase = Block("base", optional=True)
EnergyBlock = Block("energy")
"""The energy f(z), which is added to the log density of the Gaussian prior."""
KernelBlock = Block("kernel")
LikelihoodBlock = Block("likelihood")
SourceBlock = Block("source")
SourceBlocks = LabelledBlocks("source")
ChainBlocks = Blocks("jebm.evaluations.chain_comparison:ChainSetup")

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def _yaml_number(value):
    """Accept ``1e-3``: a float in YAML 1.2 (DVC writes it so), a string in YAML 1.1 (PyYAML reads it so)."""
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


_Float = Annotated[float, BeforeValidator(_yaml_number), Field(allow_inf_nan=False)]

Number = _Float
AssetName = Annotated[str, ASSET]
"""A key of the block ``assets``."""


def _whole_path(value):
    """A shell replaces ``~``; a parameter file does not."""
    if isinstance(value, str) and value.startswith("~"):
        raise ValueError(f"'~' is not replaced here; write the whole path: {os.path.expanduser(value)}")
    return value


def _device(value):
    if isinstance(value, str) and re.fullmatch(r"cpu|cuda(:\d+)?|mps", value):
        return value
    raise ValueError("must be cpu, cuda, one of several GPUs such as cuda:1, or mps")


Device = Annotated[
    str,
    PlainValidator(_device, json_schema_input_type=Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?|mps)$")]),
]
"""Where to compute."""
DataPath = Annotated[str, BeforeValidator(_whole_path), Field(min_length=1), DATA_PATH]
"""Path of a file or folder of the user; a relative path starts at the top folder of the repository."""
Natural = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Counts = Annotated[list[Count], Field(min_length=1)]
Steps = Annotated[list[Natural], Field(min_length=1)]
"""Numbers of steps of a chain; 0 is the initial state."""
Positive = Annotated[_Float, Field(gt=0)]
NonNegative = Annotated[_Float, Field(ge=0)]
Fraction = Annotated[_Float, Field(ge=0, le=1)]
Betas = Annotated[list[Annotated[_Float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
"""Decay rates per step of two running averages."""
Reference = Literal["validation", "test"]
"""Split of the data on which the evaluation is done: ``validation`` while tuning, otherwise ``test``."""
InceptionProtocol = Literal["clean", "legacy_pytorch", "legacy_tensorflow"]
"""Mode of clean-fid. Distances are comparable within one mode only."""
LatentSpace = Literal["whitened", "z", "whitened-biased"]
"""Coordinates in which a chain runs, and its target density. ``whitened-biased`` is the biased density of the published
code, for comparison; it is not the density of the joint prior."""
KlBalance = Literal["none", "dimension", "scale"]
"""What the KL of a layer is compared with during the warm-up: its number of latent dimensions (``dimension``), or
NVAE's measure of its size (``scale``); ``none`` does not balance."""
StepSizeSource = Literal["own", "adapted"]
ChainStart = Literal["normal", "prior", "proposal"]
"""``normal`` is N(0, I) in the chain's coordinates; ``prior`` is the Gaussian prior of the backbone, and
``proposal`` the proposal of the prior, both mapped to these coordinates."""
Activation = Literal["silu", "leaky-relu"]
"""Activation function of hidden units; ``leaky-relu`` has the slope 0.2 for negative inputs."""
EnergyStart = Literal["zero", "random"]
"""``zero``: training starts at f = 0, which is the Gaussian prior; ``random``: the output layer is initialised
randomly, like all other layers."""
DenoisingMethod = Literal["ode", "ancestral"]
"""How noise is removed: along the probability-flow ``ode``, or by ``ancestral`` draws with fresh noise."""
Gradients = Literal["autograd", "closed-form"]
"""How a chain computes its gradients: by ``autograd``, with one call per step, or in ``closed-form`` (equal up to
rounding) if the networks are stacks of linear maps and activations, and by autograd otherwise. In closed form the last
state of an unadjusted chain is not evaluated."""
Dropout = Annotated[_Float, Field(ge=0, lt=1)]
LayerDims = Annotated[list[Count], Field(min_length=1), LAYERS]
"""Number of latent dimensions of each layer, bottom first."""
LayersPerScale = Annotated[list[Count], Field(min_length=1), LAYERS_PER_SCALE]
"""Number of latent layers at each scale, finest scale first."""
CountPerScale = Annotated[list[Count], Field(min_length=1), PER_SCALE]
"""One number per scale, finest scale first."""


def _layer_choice(value):
    """One message for all forms of the value."""
    if value == "all" or (isinstance(value, list) and value and all(type(i) is int and i >= 1 for i in value)):
        return value
    if isinstance(value, dict) and list(value) == ["top_scales"] and type(k := value["top_scales"]) is int and k >= 1:
        return value
    raise ValueError("must be 'all', a list of layer numbers from 1, the bottom one, or {top_scales: k}")


LayerChoice = Annotated[
    str | list[int] | dict[str, int],
    PlainValidator(
        _layer_choice, json_schema_input_type=Literal["all"] | list[Count] | dict[Literal["top_scales"], Count]
    ),
    CHOSEN_LAYERS,
]
"""``all``, a list of layer numbers (1 is the bottom layer), or ``{top_scales: k}``: all layers of the k coarsest
scales."""
Digit = Annotated[int, Field(ge=0, le=9)]
GreyLevels = Annotated[int, Field(ge=2, le=256)]
"""Number of integer levels of the stored data, which is uint8."""
ImageMode = Literal["source", "rgb", "grey"]
"""Channels of the prepared images: ``source`` keeps those of the source, ``rgb`` has 3, ``grey`` has 1."""
Resample = Literal["bilinear", "bicubic", "lanczos", "box"]
"""Resampling filter for changes of size. All of them are antialiased when the image gets smaller."""
Background = Literal["white", "black"]
"""Colour that is shown behind transparent pixels."""
Bits = Literal[8, 5]
"""Bits per stored channel; 5 keeps the five most significant of eight bits."""
GeneratedSets = list[Literal["uniform", "constant"]]
OodSets = list[Literal["patches", "uniform", "constant", "half-mix", "vertical-flip", "overlay"]]


def _resolutions(value):
    """Finest first, each a whole multiple of the next."""
    if not isinstance(value, list) or not value or not all(type(i) is int and i >= 1 for i in value):
        raise ValueError("must be a list of whole numbers from 1, the finest scale first")
    if any(fine <= coarse or fine % coarse for fine, coarse in pairwise(value)):
        raise ValueError(f"is {value}; each must be a whole multiple of the next, the finest scale first")
    return value


Resolutions = Annotated[list[int], PlainValidator(_resolutions, json_schema_input_type=Counts), PER_SCALE]
"""Height and width of the feature maps at each scale, finest first. Each must be a multiple of the next."""


def _per_layer(least: int):
    """A whole number for all layers, or a list with one per layer, with one message for both forms."""

    def check(value):
        numbers = value if isinstance(value, list) else [value]
        if not numbers or not all(type(i) is int and i >= least for i in numbers):
            raise ValueError(f"must be a whole number from {least}, or a list of one for each layer, bottom first")
        return value

    number = Annotated[int, Field(ge=least)]
    return PlainValidator(check, json_schema_input_type=number | Annotated[list[number], Field(min_length=1)])


LayerWidth = Annotated[int | list[int], _per_layer(1), PER_CHOSEN_LAYER]
"""Number of hidden units: one number for the networks of all layers, or a list with one per layer, bottom first."""
LayerDepth = Annotated[int | list[int], _per_layer(0), PER_CHOSEN_LAYER]
"""Number of hidden layers: one number for the networks of all layers, or a list with one per layer, bottom first."""
LogSigma = Annotated[_Float, Field(ge=-5, le=5)]
CellArchitecture = Literal[
    "res_mbconv", "res_elu", "res_bnelu", "res_bnswish", "mbconv_sep", "mbconv_sep11", "res53_mbconv", "res35_mbconv",
    "res55_mbconv", "mbconv_res", "mbconv_den",
]  # fmt: skip
"""Operations of the residual cells; see ``jebm.models.backbones.nvae.architectures``."""
DIMENSIONS = ("set", "score", "layer", "step")
"""The columns of ``metrics.csv`` that distinguish the values of one metric; a column that does not apply is empty.

``set`` names what was measured: a set of outliers, or the label of a chain, an estimator or a kind of draws. ``score``
is an outlier score. ``layer`` is a latent layer (``z1`` is the bottom one) or a term of the energy. ``step`` is a
number of steps of a chain, the training step of a snapshot, or the number of draws of a bound.
"""
