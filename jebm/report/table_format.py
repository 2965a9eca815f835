"""A table of numbers over seeds, and its formatting as Markdown, CSV and LaTeX."""

import re
import unicodedata
from dataclasses import dataclass, field
from html import escape

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
    seeds: list[str] = field(default_factory=list)
    """The seed of each value."""
    doubt: str = ""
    """The mark of a value whose own diagnostics fail."""
    interval: tuple[float, float] | None = None
    """Ends of a confidence interval over images, each averaged over seeds."""
    noise: float | None = None
    """Standard deviation over the sample sets of one seed; printed if there is none over seeds."""
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
        spread = self.noise if self.sd is None else self.sd
        sd = f" ± {fixed(spread, self.digits)}" if spread is not None else ""
        interval = ""
        if self.interval is not None:
            interval = " [{}, {}]".format(*(fixed(end, self.digits) for end in self.interval))
        text = f"{fixed(self.mean, self.digits)}{sd}{interval}{self.doubt and f' {self.doubt}'}"
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


SUPERSCRIPTS = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"
PLAIN = str.maketrans(SUPERSCRIPTS, "-0123456789")


def _greek(letter: re.Match) -> str:
    """The command of LaTeX for a Greek letter."""
    size, name = unicodedata.name(letter[0]).replace("LAMDA", "LAMBDA").split()[1::2]
    return f"$\\{name.capitalize() if size == 'CAPITAL' else name.lower()}$"


def _tex(text: str) -> str:
    """Replace what tabulate, which escapes LaTeX's special characters, leaves: symbols, and the marks of the best
    values."""
    text = re.sub(f"×10([{SUPERSCRIPTS}]+)", lambda power: rf"$\times 10^{{{power[1].translate(PLAIN)}}}$", text)
    text = re.sub(f"[{SUPERSCRIPTS}]+", lambda power: f"$^{{{power[0].translate(PLAIN)}}}$", text)
    text = re.sub("[α-ξπρσ-ωΓΔΘΛΞΠΣΦΨΩ]", _greek, text)
    for plain, tex in (
        ("±", r"$\pm$"), ("↓", r"$\downarrow$"), ("↑", r"$\uparrow$"), ("–", "--"), ("—", "---"), ("−", "$-$"),
        ("×", r"$\times$"), ("†", r"$^\dagger$"),
    ):  # fmt: skip
        text = text.replace(plain, tex)
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", text)


STYLE = (
    "body{font:15px sans-serif;margin:1.5em;max-width:75em}table{border-collapse:collapse}"
    "th,td{padding:.3em .8em;text-align:right;border-bottom:1px solid #ddd}"
    "th:first-child,td:first-child{text-align:left}li{margin:.2em 0;color:#444}"
)


def html(table: RenderedTable, caption: str) -> str:
    """A page of one table with its notes, which needs no other file."""

    def row(tag: str, texts: list[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{text}</{tag}>" for text in texts) + "</tr>\n"

    def bold(text: str) -> str:
        return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(text))

    rows = [[escape(label), *(bold(cell.text("**{}**")) for cell in cells)] for label, cells in table.rows]
    body = row("th", [escape(header) for header in table.headers]) + "".join(row("td", texts) for texts in rows)
    notes = "".join(f"<li>{escape(note)}</li>\n" for note in table.notes)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(caption)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h3>{escape(caption)}</h3>\n<table>\n{body}</table>\n"
        f"<ul>\n{notes}</ul></body></html>\n"
    )


def csv_rows(table: RenderedTable) -> tuple[list[str], list[dict]]:
    """Columns and rows of the CSV file: unformatted numbers."""
    columns, rows = [table.headers[0]], []
    by_column = list(zip(*(cells for _, cells in table.rows), strict=True)) or [()] * (len(table.headers) - 1)
    noisy = [any(cell.noise is not None for cell in cells) for cells in by_column]
    bounded = [any(cell.interval for cell in cells) for cells in by_column]
    for header, has_noise, has_interval in zip(table.headers[1:], noisy, bounded, strict=True):
        name = header.translate(str.maketrans("", "", "↓↑")).strip()
        columns += [f"{name} mean", f"{name} sd", f"{name} n"]
        columns += [f"{name} noise"] * has_noise + [f"{name} low", f"{name} high"] * has_interval
    for label, cells in table.rows:
        numbers = []
        for cell, has_noise, has_interval in zip(cells, noisy, bounded, strict=True):
            sd = "" if cell.sd is None else f"{cell.sd:.6g}"
            count = "" if cell.quoted else len(cell.values)
            numbers += [f"{cell.mean:.6g}" if cell.values else "", sd, count]
            numbers += ["" if cell.noise is None else f"{cell.noise:.6g}"] * has_noise
            numbers += [f"{end:.6g}" for end in cell.interval or ()] or [""] * (2 * has_interval)
        rows.append(dict(zip(columns, [label, *numbers], strict=True)))
    return columns, rows
