"""Rendered tables for the terminal: lines are wrapped, and wide tables are split, with the row labels repeated."""

import shutil
import textwrap

from tabulate import tabulate

WIDTH = 100
"""Width that is assumed if the terminal does not tell its width."""


def fit_to_terminal(text: str, width: int | None = None) -> str:
    """A rendered table with its caption and notes, still Markdown, no wider than the terminal if its cells allow it."""
    width = width or shutil.get_terminal_size((WIDTH, 24)).columns
    lines = text.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    before = [line for line in lines[: next(i for i, line in enumerate(lines) if line.startswith("|"))] if line]
    notes = [line for line in lines if line.startswith("- ")]
    parts = [textwrap.fill(line, width) for line in before]
    parts += _tables([rows[0], *rows[2:]], width)
    parts.append("\n".join(textwrap.fill(note, width, subsequent_indent="  ") for note in notes))
    return "\n\n".join(parts)


def _tables(rows: list[list[str]], width: int) -> list[str]:
    """The table, split into as many tables as necessary. Each has the first column and as many others as fit, at least
    one."""
    done, tables, columns = 1, [], len(rows[0])
    while done < columns:
        for end in range(columns, done, -1):
            part = [[row[0], *row[done:end]] for row in rows]
            table = tabulate(part[1:], part[0], "pipe", disable_numparse=True)
            if end == done + 1 or max(map(len, table.splitlines())) <= width:
                break
        tables.append(table)
        done = end
    return tables
