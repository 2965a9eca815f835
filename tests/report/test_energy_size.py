"""The figure of the energies' size shows each number at its size, on the curve of its sampler."""

import pytest
from measured import at_seeds, frame
from toy import params

from jebm.config.read import parse_params
from jebm.pipeline.study import make_plan
from jebm.report.figures import energy_size

DENSITY = {"draw_samples": {"sampler": {"name": "resampling", "pool": 100}}}
FD = {"gaussian": 40, "joint": 20, "wide": 10, "flat": 30, "wide-density": 15, "odd": 99}


@pytest.fixture
def figure():
    changes = {
        "toy/variants/wide": {"prior": {"energy": {"hidden": 16}}},
        "toy/variants/flat": {"prior": {"energy": {"depth": 0}}},
        "toy/variants/wide-density": {"prior": {"energy": {"hidden": 16}}, **DENSITY},
        "toy/variants/odd": {"prior": {"energy": {"hidden": 16, "depth": 0}}},
    }
    plan = make_plan(parse_params(params(changes)))["toy"]
    groups = [at_seeds(name, "fd", (value + 1, value - 1)) for name, value in FD.items()]
    return energy_size.draw(plan, list(FD), frame(*groups, at_seeds("real-data", "fd", (5,))))


def means(ax):
    """The mean curves of a panel, by label."""
    return {
        container.get_label(): list(zip(*container.lines[0].get_data(), strict=True)) for container in ax.containers
    }


def ticks(ax):
    return [label.get_text() for label in ax.get_xticklabels()]


def test_each_panel_varies_one_size_and_starts_from_no_energy(figure):
    width, depth = figure.axes
    assert ticks(width) == ["none", "8", "16"]
    assert means(width)["end points of chains"] == [(0, 40), (1, 20), (2, 10)]
    assert means(width)["the density itself"] == [(0, 40), (2, 15)]
    assert ticks(depth) == ["none", "0", "2"]
    assert means(depth)["end points of chains"] == [(0, 40), (1, 30), (2, 20)]


def test_seeds_are_thin_lines_beside_the_mean(figure):
    thin = [list(line.get_ydata()) for line in figure.axes[1].lines if line.get_linewidth() == 0.8]
    assert [41, 31, 21] in thin
    assert [39, 29, 19] in thin
