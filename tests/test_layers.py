"""Imports run one way: a package imports what stands before it, also inside functions."""

import ast
from pathlib import Path

import pytest

import jebm

ROOT = Path(jebm.__file__).parent
LIBRARY = (
    "errors", "io", "runtime", "config", "data", "models", "features", "sampling", "training", "metrics", "evaluations",
)  # fmt: skip
"""Usable without the pipeline. Each imports itself and what stands before it."""
PIPELINE = (*LIBRARY[: LIBRARY.index("config") + 1], "pipeline")
COMMANDS = (*LIBRARY, "pipeline")
"""What the jobs, the report and the benchmark may use, besides themselves."""
ALLOWED = {
    **{name: LIBRARY[: place + 1] for place, name in enumerate(LIBRARY)},
    "pipeline": PIPELINE,
    **{name: (*COMMANDS, name) for name in ("steps", "report", "bench")},
    "forkserver": ("runtime", "forkserver"),
    "api": (*COMMANDS, "report", "api"),
    "cli": ("__init__", *COMMANDS, "steps", "report", "bench", "forkserver", "cli"),
    "__main__": ("cli", "forkserver"),
    "__init__": (),
}
EXCEPTIONS = {
    ("jebm.config.schema", "jebm.metrics.catalogue"): "the names of metrics and scores that params.yaml may mention",
    ("jebm.config.tables", "jebm.metrics.catalogue"): "the names of metrics and scores that a table may show",
}
"""Why a module imports one of a later package. The catalogue of metrics is data, and what evaluations declare in their
source text. It stays among the metrics since its labels and digits are part of every table, and what is below
``jebm.config`` is no part of a job's code."""

MODULES = {
    ".".join(("jebm", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imports_of(path: Path) -> set[str]:
    """The modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in MODULES else node.module for name in names}
    return found


def package_of(module: str) -> str:
    return "__init__" if module == "jebm" else module.split(".")[1]


@pytest.mark.parametrize("package", [name for name in ALLOWED if name != "__init__"])
def test_a_package_imports_only_what_stands_before_it(package):
    for module, path in MODULES.items():
        for name in imports_of(path) if package_of(module) == package else ():
            assert not name.startswith("snakemake"), module
            if name.split(".")[0] == "jebm" and (module, name) not in EXCEPTIONS:
                assert package_of(name) in ALLOWED[package], f"{module} imports {name}"


def test_exceptions_are_still_needed():
    for module, name in EXCEPTIONS:
        assert name in imports_of(MODULES[module])


def test_every_package_has_its_place():
    assert {package_of(module) for module in MODULES} == set(ALLOWED)


def test_nothing_else_lies_at_the_root():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}


def test_files_stay_small():
    """Long files are where a second reason to change hides."""
    most = dict.fromkeys(MODULES.values(), 300)
    most |= {ROOT.parent / "Snakefile": 60, **dict.fromkeys(ROOT.parent.glob("workflow/rules/*.smk"), 100)}
    assert not {str(path) for path, limit in most.items() if len(path.read_text().splitlines()) > limit}
