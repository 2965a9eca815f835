"""A table of numbers over seeds, and its formatting as Markdown, CSV and LaTeX."""

import re
from dataclasses import dataclass, field

import pandas as pd
from tabulate import tabulate


def fixed(value: float, digits: int) -> str:
    """A number with this many decimals, without a sign if it rounds to zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


@dataclass
class Cell:
    """A number of a table: its values over seeds, its format, and whether it is the best of those it is compared
    with."""

    values: list[float] = field(default_factory=list)
    digits: int = 2
    best: bool = False
    interval: tuple[float, float] | None = None
    """Ends of a confidence interval over images, each averaged over seeds."""
    quoted: bool = False
    """Whether it is quoted from a publication. Quoted values are not candidates for the best."""

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def sd(self) -> float | None:
        return float(pd.Series(self.values).std(ddof=1)) if len(self.values) > 1 else None

    def text(self, bold: str = "{}") -> str:
        if not self.values:
            return "–"
        sd = f" ± {fixed(self.sd, self.digits)}" if self.sd is not None else ""
        interval = ""
        if self.interval is not None:
            interval = " [{}, {}]".format(*(fixed(end, self.digits) for end in self.interval))
        text = f"{fixed(self.mean, self.digits)}{sd}{interval}"
        return bold.format(text) if self.best else text


@dataclass
class RenderedTable:
    """A table before it is written: headers, rows of (label, cells), and notes."""

    headers: list[str]
    rows: list[tuple[str, list[Cell]]]
    notes: list[str]


def markdown(table: RenderedTable, caption: str) -> str:
    body = [[label, *(cell.text("**{}**") for cell in cells)] for label, cells in table.rows]
    text = pd.DataFrame(body, columns=table.headers).to_markdown(index=False, disable_numparse=True)
    return f"{caption}\n\n{text}\n\n" + "\n".join(f"- {note}" for note in table.notes) + "\n"


def latex(table: RenderedTable, caption: str) -> str:
    """A booktabs table; requires only the package booktabs."""
    body = [[label, *(cell.text("**{}**") for cell in cells)] for label, cells in table.rows]
    align = ["left", *["right"] * (len(table.headers) - 1)]
    text = tabulate(body, table.headers, "latex_booktabs", colalign=align, disable_numparse=True)
    notes = "".join(f"% {note}\n" for note in table.notes)
    caption = _tex(re.sub(r"([&#$%_])", r"\\\1", caption))
    return f"{notes}\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n{_tex(text)}\n\\end{{table}}\n"


def _tex(text: str) -> str:
    """Replace what tabulate, which escapes LaTeX's special characters, leaves: symbols, and the marks of the best
    values."""
    for plain, tex in (
        ("±", r"$\pm$"), ("↓", r"$\downarrow$"), ("↑", r"$\uparrow$"), ("–", "--"), ("−", "$-$"),
        ("×10⁻³", r"$\times 10^{-3}$"),
    ):  # fmt: skip
        text = text.replace(plain, tex)
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", text)


def csv_rows(table: RenderedTable) -> tuple[list[str], list[dict]]:
    """Columns and rows of the CSV file: unformatted numbers."""
    columns, rows = [table.headers[0]], []
    bounded = [any(cells[i].interval for _, cells in table.rows) for i in range(len(table.headers) - 1)]
    for header, has_interval in zip(table.headers[1:], bounded, strict=True):
        name = header.translate(str.maketrans("", "", "↓↑")).strip()
        columns += [f"{name} mean", f"{name} sd", f"{name} n"]
        columns += [f"{name} low", f"{name} high"] if has_interval else []
    for label, cells in table.rows:
        numbers = []
        for cell, has_interval in zip(cells, bounded, strict=True):
            sd = "" if cell.sd is None else f"{cell.sd:.6g}"
            count = "" if cell.quoted else len(cell.values)
            numbers += [f"{cell.mean:.6g}" if cell.values else "", sd, count]
            numbers += [f"{end:.6g}" for end in cell.interval or ()] or [""] * (2 * has_interval)
        rows.append(dict(zip(columns, [label, *numbers], strict=True)))
    return columns, rows
