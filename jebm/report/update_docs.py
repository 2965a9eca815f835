"""Keeps tables in documents equal to the rendered ones, and flowcharts equal to the workflow.

A document holds ``<!-- results/<study>/tables/<name>.md -->``, the rows of that table, and ``<!-- end -->``; or
``<!-- jebm graph <study> -->``, a block of Mermaid, and ``<!-- end -->``.
"""

import re
from collections.abc import Callable
from pathlib import Path

from jebm.errors import JebmError
from jebm.io.files import atomic_write

BLOCK = re.compile(r"<!-- (results/\S+\.md) -->\n(.*?)<!-- end -->", re.DOTALL)
CHART = re.compile(r"<!-- jebm graph(?: (\w+))? -->\n(.*?)<!-- end -->", re.DOTALL)


def table_rows(path: Path) -> list[str]:
    """The rows of a rendered table.

    Raises:
        JebmError: the table has not been rendered.
    """
    if not path.exists():
        raise JebmError(f"{path}: no such table; `snakemake --cores all {path}` makes it")
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]


def update_tables(document: Path) -> int:
    """Replace the rows of every marked table, and keep other text in its block. Returns the number of tables."""
    text = document.read_text(encoding="utf-8")

    def replace(match: re.Match) -> str:
        lines, fresh = match.group(2).splitlines(), table_rows(Path(match.group(1)))
        places = [i for i, line in enumerate(lines) if line.startswith("|")] or [len(lines)]
        kept = [line for line in lines[places[0] :] if not line.startswith("|")]
        body = [*lines[: places[0]], *fresh, *kept]
        if not body[0]:
            body = body[1:]
        return f"<!-- {match.group(1)} -->\n\n" + "\n".join(body).strip("\n") + "\n\n<!-- end -->"

    _write(document, text, BLOCK.sub(replace, text))
    return len(BLOCK.findall(text))


def update_charts(document: Path, draw: Callable[[str], str]) -> int:
    """Replace every marked flowchart. Returns their number.

    Args:
        draw: the Mermaid text of a study, or of all studies for an empty name.
    """
    text = document.read_text(encoding="utf-8")

    def replace(match: re.Match) -> str:
        mark = match.group(0).splitlines()[0]
        return f"{mark}\n\n```mermaid\n{draw(match.group(1) or '')}\n```\n\n<!-- end -->"

    _write(document, text, CHART.sub(replace, text))
    return len(CHART.findall(text))


def _write(document: Path, old: str, new: str) -> None:
    if new != old:
        with atomic_write(document) as file:
            file.write(new)
