"""docs/paper.md: every row has a state, what it names exists, and its numbers stand in the tables that it links."""

import re
from functools import cache
from pathlib import Path

import pytest

from jebm.config.read import read_params
from jebm.pipeline.jobs import study_jobs
from jebm.pipeline.study import make_plan

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
STATES = ("measured here", "measured in part", "settings and smoke only", "not measured yet", "not built")
OPEN = re.compile(r"`(\w+)`: not measured yet")


def rows():
    """The cells of every row of every table that ends with a state, and its line number."""
    found, width = [], 0
    for number, line in enumerate((DOCS / "paper.md").read_text(encoding="utf-8").splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if cells[-1:] == ["state"]:
            width = len(cells)
        elif not cells:
            width = 0
        elif width and set(line) - set("|-: "):
            assert len(cells) == width == 6, f"line {number}: {len(cells)} cells"
            found.append(pytest.param(*cells, id=f"line {number}"))
    return found


@cache
def plans():
    return make_plan(read_params(ROOT / "params.yaml"))


@cache
def files(study):
    return {path for job in study_jobs(plans()[study]) for path in job.outputs}


ROWS = rows()
each_row = pytest.mark.parametrize(("what", "command", "studies", "measured", "published", "state"), ROWS)


def test_there_are_rows_for_all_that_the_paper_claims_asks_and_shows():
    sections = re.findall(r"^## (.+)$", (DOCS / "paper.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(sections) == 8
    assert len(ROWS) > 50


@each_row
def test_row_has_a_state_and_a_reason_where_something_is_missing(what, command, studies, measured, published, state):
    kind, _, reason = state.partition(":")
    assert kind in STATES
    assert bool(reason.strip()) == (kind != "measured here")
    assert (kind in ("measured here", "measured in part")) == bool(re.search(r"\]\(", measured)), (
        "links what it measured"
    )
    assert bool(OPEN.search(measured)) == ("MNIST" in reason or kind == "not measured yet")


@each_row
def test_targets_of_the_command_exist(what, command, studies, measured, published, state):
    if command == "–":
        return
    words = re.fullmatch(r"`(snakemake --cores all|jebm timings|jebm bench) ([^`]+)`", command)[2].split()
    for target in words:
        study = Path(target).parts[1] if "/" in target else target
        assert study in plans()
        assert "/" not in target or target in files(study)


@each_row
def test_variants_are_those_of_the_study(what, command, studies, measured, published, state):
    for part in studies.split("; ") if studies != "–" else ():
        study, *variants = re.findall(r"`([^`]+)`", part)
        assert variants
        assert set(variants) <= set(plans()[study].variants)
        assert study in command


@each_row
def test_numbers_stand_in_the_linked_tables(what, command, studies, measured, published, state):
    tables = [(DOCS / path).read_text(encoding="utf-8") for path in re.findall(r"\]\((\.\./[^)]+\.md)\)", measured)]
    for number in re.findall(r"-?\d+(?:\.\d+)? ± \d+(?:\.\d+)?", measured):
        assert any(re.search(rf"(?<![\d.-]){re.escape(number)}(?![\d.])", text) for text in tables), number


@each_row
def test_what_is_not_measured_yet_has_no_recorded_results(what, command, studies, measured, published, state):
    for study in OPEN.findall(measured):
        assert not (ROOT / "results" / study / "metrics.csv").exists(), f"fill in the numbers of {study}"
