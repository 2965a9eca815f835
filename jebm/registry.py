"""Names of components, the class behind each, and the parameters it takes.

A new dataset, backbone, energy, prior, kernel or sampler is one file and one line here. Its parameters are the
keyword-only arguments of its constructor, read from the source text: validating ``params.yaml`` (which
``snakemake -n`` does every time) must not import torch.
"""

import ast
import importlib
import importlib.util
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from jebm import types

COMPONENTS: dict[str, dict[str, str]] = {
    "dataset": {
        "breast-cancer": "jebm.data.breast_cancer:BreastCancer",
        "digits": "jebm.data.digits:Digits",
        "images": "jebm.data.images:Images",
    },
    "source": {
        "celeba": "jebm.data.sources.celeba:CelebA",
        "cifar10": "jebm.data.sources.cifar10:Cifar10",
        "fashion-mnist": "jebm.data.sources.mnist:FashionMnist",
        "folder": "jebm.data.sources.folder:Folder",
        "lsun": "jebm.data.sources.lsun:Lsun",
        "mnist": "jebm.data.sources.mnist:Mnist",
        "svhn": "jebm.data.sources.svhn:Svhn",
    },
    "backbone": {
        "chain": "jebm.models.chain:ChainHierarchy",
        "convolutional": "jebm.models.convolutional:ConvolutionalHierarchy",
        "nvae": "jebm.models.nvae.hierarchy:NvaeHierarchy",
        "residual": "jebm.models.residual:ResidualHierarchy",
    },
    "likelihood": {
        "gaussian": "jebm.models.likelihoods.gaussian:GaussianLikelihood",
        "logistic-mixture": "jebm.models.likelihoods.logistic_mixture:LogisticMixture",
    },
    "energy": {
        "layerwise": "jebm.models.layerwise:LayerwiseEnergy",
        "concatenated": "jebm.models.concatenated:ConcatenatedEnergy",
        "context": "jebm.models.contextual:ContextEnergy",
        "cumulative": "jebm.models.cumulative:CumulativeEnergy",
        "conv": "jebm.models.map_energy:MapEnergy",
    },
    "prior": {
        "gaussian": "jebm.models.priors:GaussianPrior",
        "mixture": "jebm.models.mixture:MixturePrior",
        "ebm": "jebm.models.priors:JointPrior",
        "ncp": "jebm.models.ncp:NoiseContrastivePrior",
        "sequential": "jebm.models.sequential:SequentialPrior",
    },
    "kernel": {
        "langevin": "jebm.sampling.langevin:Langevin",
        "pcnl": "jebm.sampling.pcnl:CrankNicolsonLangevin",
    },
    "features": {
        "classifier": "jebm.models.classifier:Classifier",
        "identity": "jebm.models.identity:Identity",
        "inception": "jebm.models.inception:Inception",
    },
    "evaluation": {
        "anomaly": "jebm.evaluations.anomaly:Anomaly",
        "detection": "jebm.evaluations.detection:Detection",
        "layers": "jebm.evaluations.layers:Layers",
        "terms": "jebm.evaluations.terms:Terms",
        "posterior": "jebm.evaluations.posterior:PosteriorAccuracy",
        "chains": "jebm.evaluations.chains:Chains",
        "partition": "jebm.evaluations.partition:Partition",
        "groups": "jebm.evaluations.groups:Groups",
        "whiteness": "jebm.evaluations.whiteness:Whiteness",
    },
    "sampler": {
        "ancestral": "jebm.sampling.samplers:Ancestral",
        "chain": "jebm.sampling.samplers:Chain",
        "resampling": "jebm.sampling.samplers:Resampling",
        "sequential": "jebm.sampling.sequential:Sequential",
    },
}

FITS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mixture": ("jebm.training.mixture:fit", ()),
    "ebm": ("jebm.training.ebm:fit", ("train_prior",)),
    "ncp": ("jebm.training.ncp:fit", ("train_prior",)),
    "sequential": ("jebm.training.sequential:fit", ("train_prior",)),
}
"""How the prior of that name is learned, and the blocks of parameters that this uses besides the prior's own.

A prior that is not listed has nothing to learn."""


IMPORTERS: dict[str, str] = {
    "jebm": "jebm.models.imported:read_imported",
    "nvae": "jebm.models.nvae.checkpoint:read_checkpoint",
}
"""What reads a backbone's weights from a file of each format; ``jebm`` is what ``jebm import`` writes."""

EXACT_PRIORS = ("gaussian", "mixture")
"""Priors that the ancestral sampler can draw from."""

CHAINLESS_PRIORS = ("ncp",)
"""Priors that are trained by gradient, but without a chain."""

SEQUENTIAL_PRIORS = ("sequential",)
"""Priors that only the sequential sampler can draw from, layer by layer; their density can't be evaluated."""

LAYER_ENERGIES = ("layerwise", "context", "cumulative", "conv")
"""Energies with a term for each layer that sees no layer below it: what sequential priors need."""
JOINT_PRIORS = ("ebm",)
"""Priors that ``train_joint`` can train together with the backbone: those with energies under one normaliser."""

STREAMED_FEATURES = ("inception",)
"""Feature spaces with so many dimensions that sets are compared by their moments, collected batch by batch, and by a
bounded number of features; the moments of the reference are a stage of their own. Distances in them are named FID and
KID, in the others FD and KD."""

BATCH_NORM_BACKBONES = ("nvae",)
"""Backbones with batch norm, whose statistics can be drawn anew, and with convolutions whose norms can be held down."""

FIGURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "samples": ("jebm.report.figures.samples:draw", ("dataset", "samples")),
    "langevin-steps": ("jebm.report.figures.langevin_steps:draw", ("metrics",)),
    "energy-size": ("jebm.report.figures.energy_size:draw", ("metrics",)),
    "layers": ("jebm.report.figures.layers:draw", ("dataset", "layers")),
    "energies": ("jebm.report.figures.energies:draw", ("density-metrics", "samples")),
    "training": ("jebm.report.figures.training:draw", ("backbone", "prior")),
    "depth": ("jebm.report.figures.depth:draw", ("metrics",)),
    "terms": ("jebm.report.figures.terms:draw", ("metrics",)),
    "posterior": ("jebm.report.figures.posterior:draw", ("evaluation:posterior",)),
    "detection": ("jebm.report.figures.detection:draw", ("metrics",)),
    "columns": ("jebm.report.figures.columns:draw", ("dataset", "samples")),
    "roc": ("jebm.report.figures.roc:draw", ("density-metrics",)),
    "steps": ("jebm.report.figures.steps:draw", ("metrics",)),
    "groups": ("jebm.report.figures.groups:draw", ("metrics",)),
    "whiteness": ("jebm.report.figures.whiteness:draw", ("evaluation:whiteness",)),
    "mixing": ("jebm.report.figures.mixing:draw", ("metrics", "evaluation:chains")),
}
"""How a figure is drawn, and the stages that it reads (``metrics``: the study's collected metrics)."""

TABLES: dict[str, str] = {
    "metrics": "jebm.report.tables:metrics_table",
    "by-seed": "jebm.report.tables:by_seed_table",
    "detection": "jebm.report.tables:detection_table",
    "keyed": "jebm.report.tables:keyed_table",
    "matrix": "jebm.report.tables:matrix_table",
    "rows": "jebm.report.tables:rows_table",
    "scores": "jebm.report.tables:scores_table",
    "grid": "jebm.report.tables:grid_table",
    "crossed": "jebm.report.tables:crossed_table",
}
"""How a table of each kind is built from the study's collected metrics."""


class Section(BaseModel):
    """A block of params.yaml: unknown keys are refused and no value is converted behind the user's back."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)
    target: ClassVar[str | None] = None
    """``module:class`` of the component that the block configures, if it configures one."""


def load(target: str) -> Any:
    """The object behind ``module:name``."""
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def component_class(kind: str, name: str) -> type:
    """The class registered under ``name``; imports its module."""
    return load(COMPONENTS[kind][name])


def build(kind: str, spec: BaseModel, *context: Any) -> Any:
    """Construct the component that ``spec`` names: context positionally, parameters by keyword."""
    arguments = {key: getattr(spec, key) for key in type(spec).model_fields if key != "name"}
    return component_class(kind, spec.name)(*context, **arguments)


def build_all(blocks: dict[str, BaseModel]) -> dict[str, Any]:
    """Label → the object that each of some labelled blocks describes."""
    return {
        label: load(block.target)(**{key: getattr(block, key) for key in type(block).model_fields})
        for label, block in blocks.items()
    }


@cache
def schema(kind: str) -> Any:
    """The type of a ``{name: …, …}`` block for any component of this kind, told apart by ``name``."""
    models = tuple(_model(kind, name) for name in COMPONENTS[kind])
    return models[0] if len(models) == 1 else Annotated[reduce(or_, models), Field(discriminator="name")]


@cache
def _model(kind: str, name: str) -> type[Section]:
    return _parameters(COMPONENTS[kind][name], name=(Literal[name], ...))


@cache
def _labelled(target: str) -> Any:
    return Annotated[dict[str, _parameters(target)], Field(min_length=1)]


def _parameters(target: str, **fields: Any) -> type[Section]:
    """The keyword-only arguments of a class's constructor as a block, after the given fields."""
    module, class_name = target.split(":")
    tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8"))
    class_ = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    init = next((n for n in class_.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is not None:
        for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
            value = ... if default is None else ast.literal_eval(default)
            fields[argument.arg] = (_annotation(ast.unparse(argument.annotation)), value)
    model = create_model(f"{class_name}Parameters", __base__=Section, **fields)
    model.target = target
    return model


def _annotation(text: str) -> Any:
    """A type by its name in ``jebm.types``; blocks stand for the schema of their kind or class."""
    names = {name: getattr(types, name) for name in types.__all__}
    annotation = eval(text, names)  # our own annotations; nothing from outside reaches this
    if isinstance(annotation, types.Blocks):
        return _labelled(annotation.target)
    if isinstance(annotation, types.LabelledBlocks):
        return dict[str, schema(annotation.kind)]
    if isinstance(annotation, types.Block):
        return schema(annotation.kind) | None if annotation.optional else schema(annotation.kind)
    return annotation
