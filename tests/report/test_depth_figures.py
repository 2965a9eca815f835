"""The figures of depth and of single terms: what stands in the metrics stands in the axes."""

import numpy as np
import pandas as pd
import pytest
from toy import params

from jebm.config.read import parse_params
from jebm.pipeline.study import make_plan
from jebm.report.figures import depth, terms

VARIANTS = {
    "l2": {"prior": {"name": "gaussian"}, "draw_samples": {"sampler": {"name": "ancestral"}}},
    "l4": {
        "backbone": {"name": "residual", "groups": [4], "latent_channels": 2},
        "train_backbone": {"kl_warmup": [[0.0, 0.5]]},
        "prior": {"energy": {"name": "context"}},
    },
}


def frame(*rows):
    """(variant, metric, values at seeds 0 and 1)."""
    full = [(v, seed, metric, value) for v, metric, values in rows for seed, value in enumerate(values)]
    return pd.DataFrame(full, columns=["variant", "seed", "metric", "value"])


@pytest.fixture
def plan():
    changes = {
        "toy/variants": VARIANTS,
        "toy/tables/main/variants": ["l2", "l4"],
        "toy/figures": {"depth": ["l2", "l4"]},
    }
    return make_plan(parse_params(params(changes)))["toy"]


def test_depth_shows_fd_by_layers_and_the_kl_of_each_layer(plan, monkeypatch):
    rows = [("l2", "fd", (10.0, 14.0)), ("l4", "fd", (6.0, 8.0)), ("data", "fd", (4.0,))]
    rows += [("l4", f"kl:z{i + 1}", (i + 1.0, i + 3.0)) for i in range(4)]
    monkeypatch.setattr(depth, "load_metrics", lambda plan: frame(*rows))
    left, right = depth.draw(plan, ["l2", "l4"]).axes
    means = {c.get_label(): c.lines[0].get_ydata().tolist() for c in left.containers}
    assert means == {"gaussian": [12.0], "ebm, context energies": [7.0]}
    assert right.containers[0].lines[0].get_ydata().tolist() == [2.0, 3.0, 4.0, 5.0]
    assert right.containers[0].get_label() == "4 layers"


def test_terms_shows_a_bar_a_term_and_the_whole_density(plan, monkeypatch):
    rows = [
        ("l4", "fd_without:none", (5.0, 7.0)),
        ("l4", "fd_without:z1", (20.0, 30.0)),
        ("l4", "fd_without:z2", (8.0, 8.0)),
    ]
    rows += [("l4", "fd_with_only:z1", (9.0, 11.0)), ("l4", "fd_with_only:z2", (40.0, 42.0))]
    monkeypatch.setattr(terms, "load_metrics", lambda plan: frame(*rows))
    (ax,) = terms.draw(plan, ["l4"]).axes
    heights = [[bar.get_height() for bar in container] for container in ax.containers]
    assert heights == [[25.0, 8.0], [10.0, 41.0]]
    assert any(np.allclose(line.get_ydata(), 6.0) for line in ax.lines)
