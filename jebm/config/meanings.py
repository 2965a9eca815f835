"""The meaning of each key of a block, read from source text, so that no component has to be imported.

Blocks that are classes of ``jebm.config`` document each field by the string below it. Components document their
parameters in the section ``Args:`` of the class's docstring. Otherwise the string below the type in
``jebm.config.types`` is used.
"""

import ast
import inspect
import re
import textwrap
from itertools import takewhile

from jebm.config import source, types
from jebm.config.components import Section


def summary(model: type[Section]) -> str:
    """The purpose of a block: the first paragraph of its class's docstring."""
    text = source.description(model.target or f"{model.__module__}:{model.__name__}")
    first = " ".join(text.split("\n\n")[0].split())
    return "" if first.startswith("Args:") else first


def meanings(model: type[Section]) -> dict[str, str]:
    """Key → meaning, for the documented keys of a block. Meanings that are words begin with a capital letter."""
    found = {key: text for key in model.model_fields if (text := _meaning(model, key))}
    return {key: text[0].upper() + text[1:] if re.match(r"[a-z]{2}", text) else text for key, text in found.items()}


def _meaning(model: type[Section], key: str) -> str:
    if model.target:
        text = arguments(source.description(model.target)).get(key, "")
        return text or _type_meaning(source.parameters(model.target).get(key, ("",))[0])
    for base in model.__mro__:
        if base is not Section and issubclass(base, Section) and key in base.__annotations__:
            text, annotation = _fields(base).get(key, ("", ""))
            return text or _type_meaning(annotation)
    return ""


def arguments(docstring: str) -> dict[str, str]:
    """Argument → its text, from the section ``Args:`` of a docstring."""
    _, _, rest = docstring.partition("Args:\n")
    section = "\n".join(takewhile(lambda line: line.startswith(" ") or not line, rest.splitlines()))
    found: dict[str, str] = {}
    names: list[str] = []
    for line in textwrap.dedent(section).splitlines():
        if line and not line.startswith(" ") and ":" in line:
            head, _, text = line.partition(":")
            names = [name.strip() for name in head.split(",")]
            found |= dict.fromkeys(names, text.strip())
        else:
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return found


def _fields(class_: type) -> dict[str, tuple[str, str]]:
    """Field → the string below it and the text of its annotation."""
    return _documented(source.definition(f"{class_.__module__}:{class_.__name__}"))


def _type_meaning(annotation: str) -> str:
    return _documented(source.tree(types.__name__)).get(annotation, ("", ""))[0]


def _documented(node: ast.Module | ast.ClassDef) -> dict[str, tuple[str, str]]:
    """Assigned name → the string in the next statement, if it is one, and the text of the annotation."""
    found = {}
    for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            annotation = ast.unparse(statement.annotation) if isinstance(statement, ast.AnnAssign) else ""
            text = following.value.value if _is_string(following) else ""
            found[ast.unparse(target)] = (" ".join(inspect.cleandoc(text).split()), annotation)
    return found


def _is_string(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
