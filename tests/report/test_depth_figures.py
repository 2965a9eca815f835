"""The figures of depth and of single terms: what stands in the metrics stands in the axes."""

import numpy as np
import pytest
from measured import at_seeds, frame
from toy import params

from jebm.config.read import parse_params
from jebm.pipeline.study import make_plan
from jebm.report.figures import depth, terms

VARIANTS = {
    "l2": {"prior": {"name": "gaussian"}, "draw_samples": {"sampler": {"name": "ancestral"}}},
    "l4": {
        "backbone": {"name": "residual", "layers_per_scale": [4], "latent_channels": 2},
        "train_backbone": {"kl_warmup": [[0.0, 0.5]]},
        "prior": {"energy": {"name": "context"}},
    },
}


@pytest.fixture
def plan():
    changes = {
        "toy/variants": VARIANTS,
        "toy/tables/main/variants": ["l2", "l4"],
        "toy/figures": {"depth": ["l2", "l4"]},
    }
    return make_plan(parse_params(params(changes)))["toy"]


def test_depth_shows_fd_by_layers_and_the_kl_of_each_layer(plan):
    groups = [at_seeds("l2", "fd", (10.0, 14.0)), at_seeds("l4", "fd", (6.0, 8.0)), at_seeds("real-data", "fd", (4.0,))]
    groups += [at_seeds("l4", "kl", (i + 1.0, i + 3.0), layer=f"z{i + 1}") for i in range(4)]
    left, right = depth.draw(plan, ["l2", "l4"], frame(*groups)).axes
    means = {c.get_label(): c.lines[0].get_ydata().tolist() for c in left.containers}
    assert means == {"gaussian": [12.0], "ebm, context energies": [7.0]}
    assert right.containers[0].lines[0].get_ydata().tolist() == [2.0, 3.0, 4.0, 5.0]
    assert right.containers[0].get_label() == "4 layers"


def test_terms_shows_a_bar_a_term_and_the_whole_density(plan):
    without = {"none": (5.0, 7.0), "z1": (20.0, 30.0), "z2": (8.0, 8.0)}
    alone = {"z1": (9.0, 11.0), "z2": (40.0, 42.0)}
    groups = [at_seeds("l4", "fd_without", values, layer=term) for term, values in without.items()]
    groups += [at_seeds("l4", "fd_with_only", values, layer=term) for term, values in alone.items()]
    (ax,) = terms.draw(plan, ["l4"], frame(*groups)).axes
    heights = [[bar.get_height() for bar in container] for container in ax.containers]
    assert heights == [[25.0, 8.0], [10.0, 41.0]]
    assert any(np.allclose(line.get_ydata(), 6.0) for line in ax.lines)
