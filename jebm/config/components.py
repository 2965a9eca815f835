"""Components: the parameters that each takes, and how it is built from a block of params.yaml.

The names are in ``jebm.config.catalogue``. The parameters of a component are the keyword-only arguments of its
constructor, read from the source text: validating ``params.yaml`` (which ``snakemake -n`` does every time) must not
import torch.
"""

import ast
import importlib
import importlib.util
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from jebm.config import types
from jebm.config.catalogue import COMPONENTS


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


def build_labelled(blocks: dict[str, BaseModel]) -> dict[str, Any]:
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


def description(target: str) -> str:
    """The docstring of the class or function ``module:name``, whose module is not imported."""
    return ast.get_docstring(_definition(target)) or ""


def _definition(target: str) -> ast.ClassDef | ast.FunctionDef:
    module, name = target.split(":")
    tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8"))
    return next(n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == name)


def _parameters(target: str, **fields: Any) -> type[Section]:
    """The keyword-only arguments of a class's constructor as a block, after the given fields."""
    class_ = _definition(target)
    init = next((n for n in class_.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is not None:
        for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
            value = ... if default is None else ast.literal_eval(default)
            fields[argument.arg] = (_annotation(ast.unparse(argument.annotation)), value)
    model = create_model(f"{class_.name}Parameters", __base__=Section, **fields)
    model.target = target
    return model


def _annotation(text: str) -> Any:
    """A type by its name in ``jebm.config.types``; blocks stand for the schema of their kind or class."""
    names = {name: getattr(types, name) for name in types.__all__}
    annotation = eval(text, names)  # our own annotations; nothing from outside reaches this
    if isinstance(annotation, types.Blocks):
        return _labelled(annotation.target)
    if isinstance(annotation, types.LabelledBlocks):
        return dict[str, schema(annotation.kind)]
    if isinstance(annotation, types.Block):
        return schema(annotation.kind) | None if annotation.optional else schema(annotation.kind)
    return annotation
