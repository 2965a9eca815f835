"""The figure of the latent groups shows the metrics, top group first, and energies on some groups only."""

import pandas as pd
from toy import params

from jebm.config.read import parse_params
from jebm.pipeline.study import make_plan
from jebm.report.figures import groups


def test_lines_are_means_over_seeds_from_the_top(monkeypatch):
    plan = make_plan(parse_params(params({"toy/figures": {"groups": ["gaussian", "joint"]}})))["toy"]
    values = {("joint", "kl:z1"): (1, 3), ("joint", "kl:z2"): (5, 7), ("joint", "group_gap:z2"): (0.5, 1.5)}
    values |= {("gaussian", "kl:z1"): (2, 2), ("gaussian", "kl:z2"): (4, 4), ("joint", "kl_total"): (9, 9)}
    rows = [(v, seed, metric, x) for (v, metric), pair in values.items() for seed, x in enumerate(pair)]
    frame = pd.DataFrame(rows, columns=["variant", "seed", "metric", "value"])
    monkeypatch.setattr(groups, "load_metrics", lambda plan: frame)
    left, right = groups.draw(plan, ["gaussian", "joint"]).axes
    lines = {line.get_label(): line for line in left.lines}
    assert lines["joint"].get_xdata().tolist() == [0, 1]
    assert lines["joint"].get_ydata().tolist() == [6.0, 2.0]
    assert lines["gaussian"].get_ydata().tolist() == [4.0, 2.0]
    gap = {line.get_label(): line for line in right.lines}
    assert gap["joint"].get_ydata().tolist() == [1.0]
    assert "gaussian" not in gap
    assert [text.get_text() for text in left.get_xticklabels()] == ["z2", "z1"]
