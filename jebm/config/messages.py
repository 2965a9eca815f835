"""Turns a validation error into one line that names the key, what is wrong, and what is allowed."""

import difflib
import types
import typing
from collections.abc import Iterable
from typing import Any

from jebm.config.components import Section
from jebm.config.files import current_params_file
from jebm.errors import ParamsError

PLAIN = {
    "model_type": "must be a block of settings",
    "model_attributes_type": "must be a block of settings",
    "dict_type": "must be a block of settings",
    "list_type": "must be a list",
    "missing": "is required, but missing",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "union_tag_not_found": "is required, but missing",
}
"""Type of pydantic's error → message in the words of a parameter file."""


LISTED = 8
"""Most names of studies, variants or jobs that a message lists if it can name the one that was probably meant."""


def suggestion(name: Any, allowed: Iterable[Any], most: int | None = None) -> str:
    """`` did you mean …? allowed: …``, with at most so many names if one is near."""
    names = [str(item) for item in allowed]
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f" did you mean '{close[0]}'?" if close else ""
    more = f" and {len(names) - most} more" if close and most and len(names) > most + 1 else ""
    return f"{hint} allowed: {', '.join(names[:most] if more else names)}{more}"


def unknown(what: str, name: Any, allowed: Iterable[Any]) -> ParamsError:
    """An error for a name that the parameters do not contain, with the most similar one."""
    return ParamsError(f"{current_params_file()}: {what};{suggestion(name, allowed, LISTED)}")


def explain(model: type[Section], raw: Any, detail: dict) -> tuple[str, str]:
    """The dotted key and the message of one of pydantic's errors."""
    path, parent = _locate(model, raw, detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error" and str(context["error"]).startswith("@"):
        key, _, message = str(context["error"])[1:].partition(": ")
        return ".".join([*path, key]), message
    if kind == "value_error":
        return ".".join(path), f"{context['error']}, got {detail['input']!r}"
    if kind == "extra_forbidden":
        return ".".join(path), f"unknown key;{suggestion(path[-1], parent.model_fields, LISTED)}"
    if kind == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        return ".".join([*path, "name"]), f"'{context['tag']}' is unknown;{suggestion(context['tag'], tags)}"
    if kind == "union_tag_not_found":
        path = [*path, "name"]
    if kind == "literal_error":
        choices = [part.strip("' ") for part in context["expected"].replace(" or ", ", ").split(",")]
        return ".".join(path), f"{detail['input']!r} is unknown;{suggestion(detail['input'], choices)}"
    if kind in PLAIN:
        message = PLAIN[kind].format(**context)
        got = "" if kind in ("missing", "union_tag_not_found") else f", got {detail['input']!r}"
        return ".".join(path), message + got
    return ".".join(path), f"{detail['msg'][0].lower()}{detail['msg'][1:]}, got {detail['input']!r}"


def _locate(model: Any, raw: Any, location: tuple) -> tuple[list[str], type[Section]]:
    """The path of a mistake in the file, and the block that contains its last key.

    Pydantic's location also contains the chosen member of a union, which is no key of the file.
    """
    path: list[str] = []
    parent, annotation = model, model
    parts = list(location)
    while parts:
        part = parts.pop(0)
        if part == "[key]":
            continue
        path.append(str(part))
        if isinstance(annotation, type) and issubclass(annotation, Section):
            parent = annotation
            field = annotation.model_fields.get(part)
            annotation = field.annotation if field is not None else None
        else:
            inner = typing.get_args(annotation)
            annotation = inner[-1] if inner else None
        raw = _child(raw, part)
        annotation, is_union = _choose(annotation, raw)
        if is_union and parts and isinstance(raw, dict) and parts[0] == raw.get("name"):
            parts.pop(0)
    return path, parent


def _child(raw: Any, part: Any) -> Any:
    if isinstance(raw, dict):
        return raw.get(part)
    return raw[part] if isinstance(raw, list) and isinstance(part, int) and part < len(raw) else None


def _choose(annotation: Any, raw: Any) -> tuple[Any, bool]:
    """The member of a union of components that the raw block names, and whether the annotation is such a union.

    Other annotations are returned unchanged, and an optional one without its null.
    """
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation, False
    if len(given := [m for m in typing.get_args(annotation) if m is not types.NoneType]) == 1:
        return _choose(given[0], raw)  # a block, or null
    members = [m for m in typing.get_args(annotation) if isinstance(m, type) and issubclass(m, Section)]
    name = raw.get("name") if isinstance(raw, dict) else None
    chosen = [m for m in members if typing.get_args(m.model_fields["name"].annotation) == (name,)]
    return (chosen[0] if chosen else None), True
