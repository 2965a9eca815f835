"""The code that a job depends on: the modules that its command imports, compared by their effect.

The import closure is read from the source text, starting from the job's entry module. Modules that a block of
parameters selects from ``jebm.config.catalogue`` are entry modules too. A module counts by its syntax tree without
docstrings, so comments, docstrings and layout have no effect.

Modules below ``jebm.config``, ``jebm.pipeline``, ``jebm.cli`` and ``jebm.forkserver`` do not count, however they are
imported. These packages decide the parameters of a job, its paths and how its process is started. The record of a job
holds its parameters and the contents of all files that it reads, so their effect is compared by value. Code that
computes numbers therefore belongs into another package.
"""

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jebm.io.digests import file_stamp
from jebm.io.files import atomic_write

SCANS = Path(".jebm/cache/modules.json")
PACKAGE = Path(__file__).parents[1]
BY_VALUE = ("jebm.config", "jebm.pipeline", "jebm.cli", "jebm.forkserver")
"""Packages whose modules do not belong to the code of any job."""
DISTRIBUTIONS = {"sklearn": "scikit-learn", "cleanfid": "clean-fid", "yaml": "pyyaml"}
"""Third-party imports whose distribution has another name."""


def code_fingerprint(entries: frozenset[str]) -> dict[str, str]:
    """Module → digest for the import closure of some entry modules, and third-party package → version."""
    modules, packages, todo = {}, set(), sorted(entries)
    while todo:
        name = todo.pop()
        if name in modules or name.startswith(BY_VALUE):
            continue
        modules[name], imports = _scan(name)
        for imported in imports:
            if imported.split(".")[0] == "jebm":
                todo.append(imported)
            else:
                packages.add(imported.split(".")[0])
    versions = {f"package {name}": _version(name) for name in packages if name not in sys.stdlib_module_names}
    return {**dict(sorted(modules.items())), **dict(sorted(versions.items()))}


def entry_modules(targets: list[str]) -> frozenset[str]:
    """The modules of ``module:name`` targets."""
    return frozenset(target.split(":")[0] for target in targets)


@cache
def _scan(module: str) -> tuple[str, frozenset[str]]:
    """Digest of a module's syntax tree without docstrings, and the names of the modules that it imports."""
    path = _path(module)
    stamp, known = file_stamp(os.stat(path)), _remembered().get(str(path))
    if known is None or known[0] != stamp:
        _remembered()[str(path)] = known = [stamp, *_read(path)]
    _, found, imports, candidates = known
    return found, frozenset([*imports, *filter(_is_module, candidates)])


def _read(path: Path) -> tuple[str, list[str], list[str]]:
    """Digest of a file's syntax tree, the modules that it imports, and the imported names that may be modules too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports, candidates = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports.add(node.module)
            candidates |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            said = _is_description if isinstance(node, ast.ClassDef) else _is_docstring
            node.body = [statement for statement in node.body if not said(statement)] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16], sorted(imports), sorted(candidates)


@cache
def _remembered() -> dict[str, list]:
    """Path → what was read of it, for as long as its stamp says that nobody wrote to it; see :func:`save_scans`."""
    try:
        saved = json.loads(SCANS.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return saved["files"] if saved.get("python") == sys.version else {}  # syntax trees differ between versions


def save_scans(entries: Iterable[frozenset[str]]) -> None:
    """Cache the digests and imports of all modules behind some jobs, so that each job need not read dozens of files."""
    for each in set(entries):
        code_fingerprint(each)
    with atomic_write(SCANS) as file:
        json.dump({"python": sys.version, "files": _remembered()}, file)


def _is_description(statement: ast.stmt) -> bool:
    """Whether a statement of a class body has no effect on results: a string, or how its ``metrics`` are printed."""
    names = [ast.unparse(target) for target in statement.targets] if isinstance(statement, ast.Assign) else []
    return names == ["metrics"] or _is_docstring(statement)


def _is_docstring(statement: ast.stmt) -> bool:
    """Whether a statement is only a string: a docstring, or the description below an attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _path(module: str) -> Path:
    base = PACKAGE.joinpath(*module.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@cache
def _is_module(module: str) -> bool:
    return module.split(".")[0] == "jebm" and _path(module).exists()


@cache
def _version(package: str) -> str:
    """A version without its local part: 2.12.1+cpu and 2.12.1+cu130 are the same code."""
    try:
        return version(DISTRIBUTIONS.get(package, package)).split("+")[0]
    except PackageNotFoundError:
        return "not installed"
