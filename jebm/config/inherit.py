"""Inheritance in parameter files: ``extends`` of a study, ``like`` of a variant or a table.

Both are one operation, :func:`merge`. A study that ``extends`` another study starts from its seeds, base and presets;
variants, tables and figures are not inherited. A variant or a table that is ``like`` others is merged over them in the
order in which they are named. These are variants (tables) of the same study, or presets: named blocks of overrides that
belong to the study, to the studies that it extends, or to the whole file.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from jebm.config.messages import suggestion
from jebm.errors import ParamsError

LIKE, EXTENDS, PRESETS = "like", "extends", "presets"
OWN = ("variants", "headline", "differences", "tables", "figures")
"""Blocks that a study does not inherit from the study that it extends."""


class Place(NamedTuple):
    """The position of a block, for messages."""

    file: str
    key: str = ""

    def at(self, *keys: str) -> "Place":
        """A place below this one."""
        return Place(self.file, ".".join(filter(None, (self.key, *keys))))

    def __str__(self) -> str:
        return f"{self.file}: {self.key}" if self.key else self.file


class Block(NamedTuple):
    """A block as written in a file."""

    place: Place
    content: Any


def merge(base: dict, overrides: dict) -> dict:
    """``base`` with ``overrides`` merged over it. An override that changes the ``name`` of a component replaces its
    whole block."""
    if overrides.get("name", base.get("name")) != base.get("name"):
        return overrides
    merged = dict(base)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = merge(base[key], value) if both else value
    return merged


def named_blocks(place: Place, content: Any) -> dict[str, Block]:
    """The entries of a mapping from names to blocks."""
    if not isinstance(content, dict):
        raise ParamsError(f"{place}: must map names to blocks of settings, not {content!r}")
    return {str(name): Block(place.at(str(name)), block) for name, block in content.items()}


def inherited(name: str, studies: dict[str, Block], below: tuple[str, ...] = ()) -> tuple[dict, dict[str, Block]]:
    """The seeds and base of a study, and its presets, both merged over those of the study that it extends."""
    place, content = studies[name]
    presets = named_blocks(place.at(PRESETS), content.get(PRESETS, {}))
    base = {key: value for key, value in content.items() if key not in (*OWN, EXTENDS, PRESETS)}
    if EXTENDS not in content:
        return base, presets
    other = content[EXTENDS]
    if not isinstance(other, str) or other not in studies:
        raise ParamsError(f"{place.at(EXTENDS)}: '{other}' is no study;{suggestion(other, studies)}")
    if other in (*below, name):
        raise ParamsError(f"{place.at(EXTENDS)}: '{other}' extends this study itself")
    other_base, other_presets = inherited(other, studies, (*below, name))
    return merge(other_base, base), {**other_presets, **presets}


def merge_order(
    block: Block, siblings: dict[str, Block], presets: dict[str, Block], allowed: Iterable[str], below: tuple = ()
) -> list[Block]:
    """The blocks whose merge, in this order, makes a variant, a table or a preset: those it is ``like``, then its own.

    Args:
        siblings: the entries beside the block, which it may be like; a preset may only be like presets.
        allowed: the keys that the block may have besides ``like``.

    Raises:
        ParamsError: it is like something unknown or like itself, or has an unknown key.
    """
    place, content = block
    if not isinstance(content, dict):
        raise ParamsError(f"{place}: must be a block of overrides ({{}} for none), not {content!r}")
    if unknown := [key for key in content if key != LIKE and key not in allowed]:
        raise ParamsError(f"{place.at(str(unknown[0]))}: unknown key;{suggestion(unknown[0], (LIKE, *allowed))}")
    names = content.get(LIKE, [])
    names = names if isinstance(names, list) else [names]
    found = []
    for name in names:
        if not isinstance(name, str) or (name not in siblings and name not in presets):
            raise ParamsError(
                f"{place.at(LIKE)}: there is no '{name}' here and no such preset;"
                f"{suggestion(name, [*siblings, *presets])}"
            )
        if name in siblings and name in presets:
            raise ParamsError(
                f"{place.at(LIKE)}: '{name}' is also a preset ({presets[name].place}); rename one of them"
            )
        other = siblings[name] if name in siblings else presets[name]
        if other.place in (*below, place):
            raise ParamsError(f"{place.at(LIKE)}: '{name}' is like this block itself")
        found += merge_order(other, siblings if name in siblings else {}, presets, allowed, (*below, place))
    return [*found, Block(place, {key: value for key, value in content.items() if key != LIKE})]


def place_of(key: str, blocks: list[Block]) -> Place:
    """The position of the block from which a key of the merged blocks comes; the last block's position if none has the
    key."""
    return next((block.place for block in reversed(blocks) if _has(block.content, key)), blocks[-1].place)


def _has(content: Any, key: str) -> bool:
    """Whether a dotted key exists; names may contain dots."""
    if not key:
        return True
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return any(_has(value, key[len(str(name)) + 1 :]) for name, value in items if f"{key}.".startswith(f"{name}."))
