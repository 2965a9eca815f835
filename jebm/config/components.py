"""Components: their parameters and traits, and how they are built from a block of params.yaml.

The names are in ``jebm.config.catalogue``. The parameters of a component are the keyword-only arguments of its
constructor. Its traits, by which the checks know which components fit together, are attributes of its class with
literal values. Both are read from the source text (``jebm.config.source``).
"""

import ast
import importlib
from collections.abc import Iterator
from functools import cache, reduce
from operator import or_
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model

from jebm.config import source, types
from jebm.config.catalogue import COMPONENTS


class Section(BaseModel):
    """A block of params.yaml: unknown keys are refused, and values are not converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)
    target: ClassVar[str | None] = None
    """``module:class`` of the component that the block configures, if it configures one."""
    traits: ClassVar[SimpleNamespace] = SimpleNamespace()
    """The attributes of that class which have literal values, such as ``traits.normalised`` of a prior."""


def load(target: str) -> Any:
    """The object behind ``module:name``."""
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def component_class(kind: str, name: str) -> type:
    """The class registered under ``name``; imports its module."""
    return load(COMPONENTS[kind][name])


def build(kind: str, spec: BaseModel | dict[str, Any], *context: Any) -> Any:
    """Construct the component that ``spec`` names: context positionally, parameters by keyword.

    A plain dictionary is validated first.
    """
    if isinstance(spec, dict):
        spec = TypeAdapter(schema(kind)).validate_python(spec)
    arguments = {key: getattr(spec, key) for key in type(spec).model_fields if key != "name"}
    return component_class(kind, spec.name)(*context, **arguments)


def build_labelled(blocks: dict[str, BaseModel]) -> dict[str, Any]:
    """Label → the object that the block under this label describes."""
    return {
        label: load(block.target)(**{key: getattr(block, key) for key in type(block).model_fields})
        for label, block in blocks.items()
    }


@cache
def schema(kind: str, optional: bool = False) -> Any:
    """The type of a ``{name: …, …}`` block for any component of this kind; ``name`` selects the component."""
    if optional:
        return schema(kind) | None
    models = tuple(_model(kind, name) for name in COMPONENTS[kind])
    return models[0] if len(models) == 1 else Annotated[reduce(or_, models), Field(discriminator="name")]


def _model(kind: str, name: str) -> type[Section]:
    return _component(COMPONENTS[kind][name], name)


@cache
def _component(target: str, name: str) -> type[Section]:
    """The block of a component. A class that is registered under several kinds has one block for all of them."""
    return _parameters(target, name=(Literal[name], ...))


@cache
def _labelled(target: str) -> Any:
    return Annotated[dict[str, _parameters(target)], Field(min_length=1)]


def _parameters(target: str, **fields: Any) -> type[Section]:
    """The keyword-only arguments of a class's constructor as a block, after the given fields."""
    for key, (annotation, default) in source.parameters(target).items():
        fields[key] = (_annotation(annotation), ... if default is None else ast.literal_eval(default))
    model = create_model(f"{target.split(':')[1]}Parameters", __base__=Section, **fields)
    model.target, model.traits = target, SimpleNamespace(**source.traits(target))
    return model


def names_with(kind: str, trait: str) -> list[str]:
    """The names of the components of a kind whose class has a trait."""
    return [name for name in COMPONENTS[kind] if getattr(traits_of(kind, name), trait, False)]


def traits_of(kind: str, name: str) -> SimpleNamespace:
    """The traits of a registered component."""
    return _model(kind, name).traits


@cache
def marked_fields(section: type[BaseModel], mark: types.Marked) -> tuple[str, ...]:
    """The parameters of a block whose annotation carries a mark."""
    fields = section.model_fields.items()
    return tuple(key for key, field in fields if _is_marked(field.annotation, field.metadata, mark))


def _is_marked(annotation: Any, metadata: list, mark: types.Marked) -> bool:
    """Whether an annotation carries a mark, itself or in one of its alternatives."""
    inner = [getattr(part, "__metadata__", ()) for part in get_args(annotation)]
    return any(mark in found for found in (metadata, *inner))


def blocks_in(value: Any) -> Iterator[tuple[str, Section]]:
    """Yield all blocks in a value (a block, a mapping, a list or anything else) with their dotted keys."""
    if isinstance(value, BaseModel):
        yield "", value
        inside = {key: getattr(value, key) for key in type(value).model_fields}
    else:
        inside = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
    for key, item in inside.items():
        if isinstance(item, BaseModel | dict | list):
            for path, block in blocks_in(item):
                yield f"{key}.{path}".strip("."), block


def _annotation(text: str) -> Any:
    """A type by its name in ``jebm.config.types``; markers of blocks become the schema of their kind or class."""
    annotation = eval(text, dict(vars(types)))  # these are annotations in our own source code, never user input
    if isinstance(annotation, types.Blocks):
        return _labelled(annotation.target)
    if isinstance(annotation, types.LabelledBlocks):
        return dict[str, schema(annotation.kind)]
    if isinstance(annotation, types.Block):
        return schema(annotation.kind, annotation.optional)
    return annotation
