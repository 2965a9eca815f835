"""The workflow as a drawing: its rules, what each writes, and which read it, from the jobs of the studies."""

from collections.abc import Iterable
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from jebm.pipeline.jobs import Job
from jebm.pipeline.stages import KINDS, REPORTS, RESULTS

ORDER = [*KINDS, *REPORTS]
"""Rules, each after those that it can read from."""


class Graph(NamedTuple):
    """The rules of some studies."""

    writes: dict[str, str]
    """Rule → its first file, or the folder in results/<study>/ where it is."""
    arrows: list[tuple[str, str]]
    """(rule that writes, rule that reads)."""


def rule_graph(studies: Iterable[Iterable[Job]]) -> Graph:
    """The rules that studies use, and which of them read files of which others.

    An arrow that follows from others of the same study is left out: samples depend on the data by way of the prior.

    Args:
        studies: the jobs of each study.
    """
    writes, arrows = {}, set()
    for jobs in map(list, studies):
        writes |= {job.rule: _file(job.outputs[0]) for job in jobs}
        arrows |= _reduced(jobs)
    return Graph(
        {rule: writes[rule] for rule in ORDER if rule in writes},
        sorted(arrows, key=lambda arrow: tuple(map(ORDER.index, arrow))),
    )


def _file(path: str) -> str:
    parts = Path(path).parts
    return f"{parts[2]}/" if parts[0] == str(RESULTS) and len(parts) > 3 else parts[-1]


def _reduced(jobs: list[Job]) -> set[tuple[str, str]]:
    """The arrows of one study that don't follow from others."""
    maker = {path: job.rule for job in jobs for path in job.outputs}
    arrows = {(maker[path], job.rule) for job in jobs for path in job.input_files if path in maker}
    after: dict[str, set[str]] = {}
    for rule in reversed(ORDER):
        readers = {reader for writer, reader in arrows if writer == rule}
        after[rule] = readers.union(*(after[reader] for reader in readers))
    implied = {(writer, later) for writer, reader in arrows for later in after[reader]}
    return arrows - implied


def mermaid(graph: Graph) -> str:
    """The graph as text that GitHub draws."""
    boxes = [f'    {rule}["{rule}<br/>{file}"]' for rule, file in graph.writes.items()]
    return "\n".join(["flowchart LR", *boxes, *(f"    {writer} --> {reader}" for writer, reader in graph.arrows)])


WIDTH, HEIGHT, COLUMN, ROW = 138, 38, 192, 52
"""Size of a box, and the distances between the left and the upper edges of neighbours, in pixels."""


def svg(graph: Graph) -> str:
    """The graph as a picture for a page: a column of boxes for each step of the longest way to a rule."""
    columns, chains = _layers(graph)
    places = {
        name: (i * COLUMN + 4, _row(column, name, columns) * ROW + 8)
        for i, column in enumerate(columns)
        for name in column
    }
    parts = []
    for chain in chains:
        points = [(x, y + HEIGHT / 2) for x, y in map(places.get, chain)]
        path = f"M {points[0][0] + WIDTH} {points[0][1]}"
        for (x1, y1), (x2, y2) in pairwise(points):
            end, middle = x2 - 6 * (x2 == points[-1][0]), (x1 + WIDTH + x2) / 2
            path += f" H {x1 + WIDTH} C {middle} {y1} {middle} {y2} {end} {y2}"
        parts.append(f'<path d="{path}" fill="none" stroke="#888" marker-end="url(#tip)"/>')
    for rule, file in graph.writes.items():
        x, y = places[rule]
        parts.append(
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="#eef3fa" stroke="#5b7fb0"/>'
            f'<text x="{x + WIDTH / 2}" y="{y + 16}" text-anchor="middle">{escape(rule)}</text>'
            f'<text x="{x + WIDTH / 2}" y="{y + 31}" text-anchor="middle" fill="#666">{escape(file)}</text>'
        )
    size = f"0 0 {(len(columns) - 1) * COLUMN + WIDTH + 8} {max(map(len, columns)) * ROW}"
    tip = '<defs><marker id="tip" markerWidth="7" markerHeight="7" refX="1" refY="3" orient="auto">'
    tip += '<path d="M 0 0 L 6 3 L 0 6 z" fill="#888"/></marker></defs>'
    style = 'width="100%" font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" {style}>{tip}{"".join(parts)}</svg>'


def _layers(graph: Graph) -> tuple[list[list], list[list]]:
    """The boxes of each column from top to bottom, and the way of each arrow through the columns.

    An arrow that passes a column has a place of its own there, a tuple, so that it crosses no box.
    """
    level: dict[str, int] = {}
    for rule in graph.writes:
        level[rule] = max((level[writer] + 1 for writer, reader in graph.arrows if reader == rule), default=0)
    columns: list[list] = [[] for _ in range(max(level.values()) + 1)]
    for rule, at in level.items():
        columns[at].append(rule)
    chains = []
    for writer, reader in graph.arrows:
        passed = [(writer, reader, at) for at in range(level[writer] + 1, level[reader])]
        for place in passed:
            columns[place[2]].append(place)
        chains.append([writer, *passed, reader])
    pairs = [pair for chain in chains for pair in pairwise(chain)]
    for _ in range(4):  # order each column by the places of neighbours, forwards and backwards, to cross few arrows
        for direction in (1, -1):
            for column in columns[::direction]:
                rows = {name: _row(other, name, columns) for other in columns for name in other}
                near = {name: [rows[a] for a, b in (p[::direction] for p in pairs) if b == name] for name in column}
                column.sort(key=lambda name: sum(near[name]) / len(near[name]) if near[name] else rows[name])
    return columns, chains


def _row(column: list, name: object, columns: list[list]) -> float:
    """The place of a box in its column, which is centred."""
    return column.index(name) + (max(map(len, columns)) - len(column)) / 2
