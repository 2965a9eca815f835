"""The drawing of the workflow: nothing is lost by leaving arrows out, and no box covers another."""

import itertools
from pathlib import Path
from xml.etree import ElementTree

import pytest

from jebm.config.read import read_params
from jebm.pipeline.jobs import all_jobs
from jebm.pipeline.study import make_plan
from jebm.report.graph import HEIGHT, WIDTH, mermaid, rule_graph, svg

PLANS = make_plan(read_params(Path(__file__).parents[2] / "params.yaml"))


def jobs(*studies):
    return [list(all_jobs([PLANS[name]]).values()) for name in studies]


def reachable(arrows):
    """All pairs of rules of which the second depends on the first."""
    pairs = set(arrows)
    while more := {(a, d) for (a, b), (c, d) in itertools.product(pairs, pairs) if b == c} - pairs:
        pairs |= more
    return pairs


@pytest.mark.parametrize("study", PLANS)
def test_arrows_say_what_depends_on_what_and_nothing_twice(study):
    (own,) = jobs(study)
    maker = {path: job.rule for job in own for path in job.outputs}
    all_arrows = {(maker[path], job.rule) for job in own for path in job.input_files if path in maker}
    arrows = rule_graph([own]).arrows
    assert reachable(arrows) == reachable(all_arrows)
    for arrow in arrows:
        assert arrow not in reachable(set(arrows) - {arrow})


def test_the_core_study_as_text():
    lines = mermaid(rule_graph(jobs("digits"))).splitlines()
    assert lines[0] == "flowchart LR"
    assert '    train_backbone["train_backbone<br/>weights.safetensors"]' in lines
    assert '    render_table["render_table<br/>tables/"]' in lines
    assert "    train_backbone --> train_prior" in lines
    assert "    prepare_dataset --> train_prior" not in lines


@pytest.mark.parametrize("studies", [["digits"], list(PLANS)], ids=["core", "all"])
def test_the_picture_has_a_box_per_rule_and_a_line_per_arrow(studies):
    graph = rule_graph(jobs(*studies))
    root = ElementTree.fromstring(svg(graph))
    name = "{http://www.w3.org/2000/svg}"
    boxes = [(float(box.get("x")), float(box.get("y"))) for box in root.iter(f"{name}rect")]
    assert [text.text for text in root.iter(f"{name}text")][::2] == list(graph.writes)
    assert len(root.findall(f"{name}path")) == len(graph.arrows)
    _, _, width, height = map(float, root.get("viewBox").split())
    for (x1, y1), (x2, y2) in itertools.combinations(boxes, 2):
        assert abs(x1 - x2) >= WIDTH or abs(y1 - y2) >= HEIGHT
    assert all(0 <= x <= width - WIDTH and 0 <= y <= height - HEIGHT for x, y in boxes)
