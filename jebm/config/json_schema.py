"""The JSON schema of the parameter files, for editors: completion, descriptions, and marking of mistyped keys.

It is derived from the types that check the files, in the shape of the files: studies are flat, extend others and have
presets; variants and tables are partial and may be ``like`` others. Rules between several keys are not included.
"""

import types
import typing
from collections.abc import Iterator
from typing import Any

from jebm.config.components import Section
from jebm.config.meanings import meanings, summary
from jebm.config.schema import Base, Params

WHOLE = ("Asset", "Published")
"""Blocks that are never merged with others, so their required keys are required where they are written."""
RENAMED = {
    "oneOf": "anyOf",
    # Pydantic does not translate the bounds of numbers that follow a validator.
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
}
NAMES = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
LIKE = {
    **NAMES,
    "description": "Variants or tables of this study, or presets, from which this block starts, merged in this order.",
}
EXTENDS = {"type": "string", "description": "The study from whose seeds, base and presets this study starts."}
PRESETS = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"$ref": "#/$defs/Variant"}, {"$ref": "#/$defs/Table"}]},
    "description": "Named blocks of overrides, for `like` in variants and tables.",
}


def json_schema() -> dict[str, Any]:
    """The schema of params.yaml and of any file like it, of the files of studies, and of assets.yaml."""
    schema = described_schema()
    blocks = schema["$defs"]
    top, base, study = schema["properties"], blocks.pop("Base")["properties"], blocks["Study"]["properties"]
    blocks["Variant"] = _block("Overrides on the base of the study.", {"like": LIKE, **base})
    blocks["Table"]["properties"] = {"like": LIKE, **blocks["Table"]["properties"]}
    study["variants"]["additionalProperties"] = {"$ref": "#/$defs/Variant"}
    own = {key: value for key, value in study.items() if key != "base"}
    blocks["Study"] = _block(summary(Base), {"extends": EXTENDS, "presets": PRESETS, **own, **base})
    blocks["Assets"] = {"type": "object", "additionalProperties": {"$ref": "#/$defs/Asset"}}
    keys = {key: value for key, value in top.items() if key != "studies"}
    blocks["Parameters"] = {
        "type": "object",
        "properties": {**keys, "presets": PRESETS},
        "additionalProperties": {"$ref": "#/$defs/Study"},
    }
    for name, block in blocks.items():
        if name not in WHOLE:
            block.pop("required", None)
    assets = {"minProperties": 1, "additionalProperties": {"type": "object", "required": ["file"]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Parameters of jebm",
        "type": "object",
        "if": {"required": ["default_studies"]},
        "then": {"$ref": "#/$defs/Parameters"},
        "else": {"if": assets, "then": {"$ref": "#/$defs/Assets"}, "else": {"$ref": "#/$defs/Study"}},
        "$defs": dict(sorted(blocks.items())),
    }


def described_schema() -> dict[str, Any]:
    """The schema of the checked parameters, with a description of every key."""
    schema = _plain(Params.model_json_schema())
    for model in sections(Params):
        block = schema["$defs"][model.__name__] if model is not Params else schema
        if text := summary(model):
            block["description"] = plain_text(text)
        for key, text in meanings(model).items():
            block["properties"][key]["description"] = plain_text(text)
    return schema


def sections(model: type[Section]) -> list[type[Section]]:
    """The type of a block and of all blocks in it, in order."""
    found: dict[type[Section], None] = {}

    def visit(annotation: Any) -> None:
        for part in block_types(annotation):
            if part not in found:
                found[part] = None
                for field in part.model_fields.values():
                    visit(field.annotation)

    visit(model)
    return list(found)


def block_types(annotation: Any) -> Iterator[type[Section]]:
    """The types of blocks in an annotation: alternatives, and entries of lists and mappings."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, Section):
            yield annotation
    else:
        for part in typing.get_args(annotation):
            yield from block_types(part)


def plain_text(text: str) -> str:
    """Convert the markup of docstrings to Markdown."""
    for role in (":class:", ":meth:", ":func:"):
        text = text.replace(role, "")
    return text.replace("``", "`")


def _block(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": plain_text(description),
        "properties": properties,
        "additionalProperties": False,
    }


def _plain(value: Any) -> Any:
    """Remove titles. Blocks of a component accept the keys of any component of its kind, since overrides need not
    repeat ``name``."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {}
    for key, item in value.items():
        if key == "properties":
            plain[key] = {name: _plain(field) for name, field in item.items()}
        elif key not in ("title", "discriminator"):
            plain[RENAMED.get(key, key)] = _plain(item)
    return plain
