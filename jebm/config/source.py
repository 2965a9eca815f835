"""What classes and functions declare, read from their source text without importing it.

Checking ``params.yaml``, which ``snakemake -n`` does every time, must not import torch.
"""

import ast
import importlib.util
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = __name__.split(".")[0]


@cache
def tree(module: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8"))


def definition(target: str) -> ast.ClassDef | ast.FunctionDef:
    """The class or function ``module:name``."""
    module, name = target.split(":")
    kinds = ast.ClassDef | ast.FunctionDef
    return next(node for node in tree(module).body if isinstance(node, kinds) and node.name == name)


def description(target: str) -> str:
    """The docstring of the class or function ``module:name``."""
    return ast.get_docstring(definition(target)) or ""


def parameters(target: str) -> dict[str, tuple[str, ast.expr | None]]:
    """The keyword-only arguments of a class's constructor, which may be inherited: name → text of the annotation,
    default."""
    for class_ in _with_bases(target):
        for node in class_.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                return {argument.arg: (ast.unparse(argument.annotation), default) for argument, default in pairs}
    return {}


@cache
def traits(target: str) -> dict[str, Any]:
    """The class attributes of ``module:name`` with literal values, including those of its base classes."""
    values: dict[str, ast.expr] = {}
    for class_ in _with_bases(target):
        values = _attributes(class_) | values
    found = {}
    for name, value in values.items():
        with suppress(ValueError):  # expressions can't be evaluated without the module
            found[name] = ast.literal_eval(value)
    return found


def _attributes(class_: ast.ClassDef) -> dict[str, ast.expr]:
    assigned = [node for node in class_.body if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None]
    targets = [node.targets[0] if isinstance(node, ast.Assign) else node.target for node in assigned]
    return {ast.unparse(target): node.value for target, node in zip(targets, assigned, strict=True)}


def _with_bases(target: str) -> Iterator[ast.ClassDef]:
    """A class and its base classes in this package, nearest first."""
    class_ = definition(target)
    yield class_
    for base in class_.bases:
        if origin := _origin(target.split(":")[0], ast.unparse(base)):
            yield from _with_bases(origin)


def _origin(module: str, name: str) -> str | None:
    """``module:name`` of a class of this package, from the name by which a module refers to it."""
    for node in tree(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return f"{module}:{name}"
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return f"{node.module}:{alias.name}"
    return None
