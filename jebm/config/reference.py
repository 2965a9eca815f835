"""docs/parameters.md: every key of the parameter files with its type, default and meaning, from the types."""

import re
from typing import Any

import yaml
from pydantic_core import PydanticUndefined

from jebm.config.catalogue import COMPONENTS
from jebm.config.components import Section
from jebm.config.json_schema import EXTENDS, LIKE, PRESETS, block_types, described_schema, plain_text, sections
from jebm.config.meanings import summary
from jebm.config.schema import Base, Params, Study
from jebm.config.tables import Table

INTRODUCTION = """# Parameters

*Written by `jebm parameters`, from the types that check the files. Do not edit it by hand.*

Parameters are read from `params.yaml` and from the folder `params/` beside it: `params/STUDY.yaml` is the block of one
study, `params/assets.yaml` is the block `assets`. `jebm --params mine.yaml …` and `snakemake --configfile mine.yaml …`
read `mine.yaml`, and the folder `mine/` beside it if it exists; nothing is added from `params.yaml`. Results are stored
under the names of studies, so choose other names for your studies to keep both.

- A **study** has a base (the blocks from `compute` to `evaluations`) and variants, each a block of overrides on it.
- **Overrides** are merged key by key. Lists and plain values are replaced. A component (a block with a `name`) is
  replaced as a whole if the override changes its `name`, since other components have other keys.
- **`extends: STUDY`** lets a study start from the seeds, base and presets of another study.
- **`like: NAME`** or `like: [A, B]` lets a variant start from other variants of its study or from presets, merged in
  this order; its own keys come last. Tables may be `like` other tables or presets in the same way.
- **`presets`** are named blocks of overrides. Those at the top level of `params.yaml` are available in all studies,
  those of a study in that study and in the studies that extend it.

A key with the default "–" has no default: it must be given in the base, or in the study that is extended, but not again
in variants. `params.schema.json` contains the same information for editors.
"""
TITLES = {Params: "Top level", Study: "A study", Base: "The base of a study, and overrides on it"}


_LIKE = ["string or list of string", "`[]`", LIKE["description"]]
_PRESETS = ["names → overrides, or parts of tables", "`{}`", PRESETS["description"]]
INHERITANCE = {
    Params: {"presets": _PRESETS},
    Study: {"extends": ["string", "none", EXTENDS["description"]], "presets": _PRESETS},
    Base: {"like": [*_LIKE[:2], f"In a variant: {_LIKE[2][0].lower()}{_LIKE[2][1:]}"]},
    Table: {"like": _LIKE},
}
"""Keys of the files that are resolved while reading, as rows."""


def reference() -> str:
    """The whole document."""
    schema = described_schema()
    blocks = schema["$defs"] | {"Params": schema}
    titles = {model.__name__: _title(model) for model in sections(Params)}
    parts = [INTRODUCTION]
    for model in sections(Params):
        block = blocks[model.__name__]
        lines = [f"## {titles[model.__name__]}", "", *filter(None, [plain_text(summary(model))])]
        rows = [[f"`{key}`", *row] for key, row in INHERITANCE.get(model, {}).items()] + [
            [f"`{key}`", _type(field, titles), _default(model, key), field.get("description", "")]
            for key, field in block["properties"].items()
            if (model, key) not in _INSIDE and not (model.target and key == "name")
        ]
        if rows:
            lines += ["", "| key | type | default | meaning |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


_INSIDE = {(Params, "studies"), (Study, "base")}
"""Fields of the types that are no keys of the files."""


def _title(model: type[Section]) -> str:
    """Heading of a block: components by kind and name, other blocks by the keys that hold them."""
    kinds = reversed(COMPONENTS.items())  # the first kind of a component names it
    names = {target: f"`{kind}: {{name: {name}}}`" for kind, known in kinds for name, target in known.items()}
    if model.target in names:
        return names[model.target]
    fields = [(key, field) for parent in sections(Params) for key, field in parent.model_fields.items()]
    keys = dict.fromkeys(f"`{key}`" for key, field in fields if model in block_types(field.annotation))
    return TITLES.get(model) or ", ".join(keys)


def _type(field: dict[str, Any], titles: dict[str, str]) -> str:
    """A type in words; blocks are links."""
    if "$ref" in field:
        title = titles[field["$ref"].rpartition("/")[2]]
        component = re.search(r"name: ([\w-]+)", title)
        return f"[{f'`{component[1]}`' if component else title}](#{_anchor(title)})"
    if "const" in field or "enum" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if "anyOf" in field:
        return " or ".join(_type(choice, titles) for choice in field["anyOf"])
    if field.get("type") == "array":
        least, most = field.get("minItems", 0), field.get("maxItems")
        size = f"{least} " if least == most else ""
        return f"list of {size}{_type(field.get('items', {}), titles)}"
    if field.get("type") == "object":
        return f"names → {_type(field.get('additionalProperties', {}), titles)}"
    bounds = [
        f"{sign} {field[key]:g}"
        for key, sign in {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}.items()
        if key in field
    ]
    return " ".join([field.get("type", "any"), ", ".join(bounds)]).strip()


def _default(model: type[Section], key: str) -> str:
    value = model.model_fields[key].default
    if value is PydanticUndefined:
        return "–"
    if isinstance(value, Section):
        return "its defaults"
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{text}`"


def _anchor(title: str) -> str:
    """The fragment of a heading on GitHub."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
