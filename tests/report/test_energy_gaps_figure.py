"""The figure shows KL and energy gap of the latent layers, top layer first, and energies on some layers only."""

from measured import at_seeds, frame
from toy import params

from jebm.config.read import parse_params
from jebm.pipeline.study import make_plan
from jebm.report.figures import energy_gaps


def test_lines_are_means_over_seeds_from_the_top():
    plan = make_plan(parse_params(params({"toy/figures": {"energy-gaps": ["gaussian", "joint"]}})))["toy"]
    metrics = frame(
        at_seeds("joint", "kl", (1, 3), layer="z1"), at_seeds("joint", "kl", (5, 7), layer="z2"),
        at_seeds("joint", "energy_gap", (0.5, 1.5), layer="z2"), at_seeds("gaussian", "kl", (2, 2), layer="z1"),
        at_seeds("gaussian", "kl", (4, 4), layer="z2"), at_seeds("joint", "kl_total", (9, 9)),
    )  # fmt: skip
    left, right = energy_gaps.draw(plan, ["gaussian", "joint"], metrics).axes
    lines = {line.get_label(): line for line in left.lines}
    assert lines["joint"].get_xdata().tolist() == [0, 1]
    assert lines["joint"].get_ydata().tolist() == [6.0, 2.0]
    assert lines["gaussian"].get_ydata().tolist() == [4.0, 2.0]
    gap = {line.get_label(): line for line in right.lines}
    assert gap["joint"].get_ydata().tolist() == [1.0]
    assert "gaussian" not in gap
    assert [text.get_text() for text in left.get_xticklabels()] == ["z2", "z1"]
