"""What blocks of a parameter file take over from others: ``extends`` of a study, ``like`` of a variant or a table.

All of it is one operation, :func:`merge`. A study that ``extends`` another one is laid over that one's seeds, base and
presets; its variants, tables and figures are its own. A variant or a table that is ``like`` others is laid over them
in the order in which they are named. These are variants (tables) of the same study, or presets: named blocks of
overrides, of the study, of the studies that it extends, or of the whole file.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from jebm.config.messages import near
from jebm.errors import ParamsError

LIKE, EXTENDS, PRESETS = "like", "extends", "presets"
OWN = ("variants", "headline", "tables", "figures")
"""Blocks of a study that a study which extends it does not take over."""


class Place(NamedTuple):
    """Where a block stands, for messages."""

    file: str
    key: str = ""

    def at(self, *keys: str) -> "Place":
        """A place below this one."""
        return Place(self.file, ".".join(filter(None, (self.key, *keys))))

    def __str__(self) -> str:
        return f"{self.file}: {self.key}" if self.key else self.file


class Block(NamedTuple):
    """A block as it stands in a file."""

    place: Place
    content: Any


def merge(base: dict, overrides: dict) -> dict:
    """``base`` with ``overrides`` laid over it; a component given another ``name`` replaces the block it overrides."""
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
    """The seeds and base of a study, and its presets, each laid over those of the study that it extends."""
    place, content = studies[name]
    presets = named_blocks(place.at(PRESETS), content.get(PRESETS, {}))
    base = {key: value for key, value in content.items() if key not in (*OWN, EXTENDS, PRESETS)}
    if EXTENDS not in content:
        return base, presets
    other = content[EXTENDS]
    if not isinstance(other, str) or other not in studies:
        raise ParamsError(f"{place.at(EXTENDS)}: '{other}' is no study;{near(other, studies)}")
    if other in (*below, name):
        raise ParamsError(f"{place.at(EXTENDS)}: '{other}' extends this study itself")
    other_base, other_presets = inherited(other, studies, (*below, name))
    return merge(other_base, base), {**other_presets, **presets}


def layers(
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
        raise ParamsError(f"{place.at(str(unknown[0]))}: unknown key;{near(unknown[0], (LIKE, *allowed))}")
    names = content.get(LIKE, [])
    names = names if isinstance(names, list) else [names]
    found = []
    for name in names:
        if not isinstance(name, str) or (name not in siblings and name not in presets):
            raise ParamsError(
                f"{place.at(LIKE)}: there is no '{name}' here and no such preset;{near(name, [*siblings, *presets])}"
            )
        if name in siblings and name in presets:
            raise ParamsError(
                f"{place.at(LIKE)}: '{name}' is also a preset ({presets[name].place}); rename one of them"
            )
        other = siblings[name] if name in siblings else presets[name]
        if other.place in (*below, place):
            raise ParamsError(f"{place.at(LIKE)}: '{name}' is like this block itself")
        found += layers(other, siblings if name in siblings else {}, presets, allowed, (*below, place))
    return [*found, Block(place, {key: value for key, value in content.items() if key != LIKE})]


def holder(key: str, blocks: list[Block]) -> Place:
    """Where the block stands that a key of the merged blocks comes from; the last block's place if none has it."""
    return next((block.place for block in reversed(blocks) if _has(block.content, key)), blocks[-1].place)


def _has(content: Any, key: str) -> bool:
    """Whether a dotted key exists; names may have dots themselves."""
    if not key:
        return True
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return any(_has(value, key[len(str(name)) + 1 :]) for name, value in items if f"{key}.".startswith(f"{name}."))
