"""The figure of quality against cost: who is on the frontier, and a panel row per backbone."""

from pathlib import Path

import pandas as pd

from jebm.config.read import read_params
from jebm.pipeline.study import make_plan
from jebm.report.figures.pareto import by_backbone, draw, frontier
from jebm.report.frame import tidy


def test_frontier_keeps_who_is_beaten_in_neither():
    cost = pd.Series({"free": 0.0, "cheap": 1.0, "worse": 2.0, "dear": 5.0, "equal": 5.0, "unknown": float("nan")})
    quality = pd.Series({"free": 40.0, "cheap": 8.0, "worse": 9.0, "dear": 6.0, "equal": 6.0, "unknown": 1.0})
    assert frontier(cost, quality) == ["free", "cheap", "dear"]


def test_figure_has_two_panels_for_each_backbone():
    plan = make_plan(read_params(Path(__file__).parents[2] / "params.yaml"))["learned_priors"]
    names = ["gaussian", "flow", "l8-gaussian", "l8-flow"]
    assert by_backbone(plan, names) == [names[:2], names[2:]]
    rows = [
        {"study": "s", "variant": name, "seed": seed, "metric": metric, "value": 10.0 + place + seed, "n": 1}
        for place, name in enumerate(names)
        for seed in (1, 2)
        for metric in ("fd", "training_operations", "sampling_operations")
    ]
    figure = draw(plan, names, tidy(rows))
    assert len(figure.axes) == 4
    shown = [{text.get_text() for text in ax.texts} for ax in figure.axes]
    assert shown == [set(names[:2])] * 2 + [set(names[2:])] * 2
