"""Figures from stored arrays: what stands in them is what was stored."""

import numpy as np
import pytest
import torch
from measured import at_seeds, frame
from sklearn.metrics import average_precision_score
from toy import params

from jebm.config.read import parse_params
from jebm.data.dataset import save_dataset
from jebm.io.tensors import write_tensors
from jebm.pipeline.study import make_plan
from jebm.report.figures import chain_energies, latent_space, outlier_curves, trajectories, walks

KERNEL = {"name": "pcnl", "step_size": 0.3}
CHANGES = {
    "toy/evaluations": {
        "way": {"name": "trajectories", "kernel": KERNEL},
        "layers": {"name": "layers"},
        "anomaly": {"name": "anomaly"},
    },
    "toy/figures": {"trajectories": ["joint"], "walks": ["joint"], "anomaly-curves": ["gaussian", "joint"]},
}
PLAN = make_plan(parse_params(params(CHANGES)))["toy"]
JOINT = PLAN.variants["joint"]


@pytest.fixture(autouse=True)
def dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits = {split: torch.zeros(40, 1, 4, 4, dtype=torch.uint8) for split in ("train", "test")}
    labels = {f"{split}_labels": torch.arange(40) % 2 for split in splits}
    save_dataset(JOINT.dataset.folder, {**splits, **labels}, 17, {})


def store(stage, seed, arrays):
    write_tensors(stage.run_folder(seed) / "arrays.safetensors", arrays)


def test_trajectory_has_a_row_per_chain_and_a_column_per_number_of_steps():
    images = torch.arange(6, dtype=torch.uint8).reshape(3, 2, 1, 1, 1).expand(3, 2, 1, 4, 4)  # steps, chains
    store(JOINT.evaluations["way"], 0, {"images": images, "steps": torch.tensor([0, 5, 9])})
    (ax,) = trajectories.draw(PLAN, ["joint"]).axes
    shown = ax.images[0].get_array()[1::5, 1::5] * 16
    assert shown.tolist() == [[0, 2, 4], [1, 3, 5]]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "5", "9"]


def test_energies_of_chains_are_shown_at_the_start_at_the_steps_of_training_and_at_the_end():
    """The toy's short-run training has 5 steps."""
    tilts = torch.tensor([[0.0], [1.0], [2.0], [3.0]]).expand(4, 100)
    steps = torch.tensor([0, 5, 20, 40])
    store(JOINT.evaluations["way"], 0, {"steps": steps, "tilt/chains": tilts, "tilt/posterior": torch.rand(50)})
    (ax,) = chain_energies.draw(PLAN, ["joint"]).axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert set(labels) == {"posterior draws", "Gaussian prior (0 steps)", "after 5 steps", "after 40 steps"}


def test_walks_have_a_panel_per_layer_from_the_bottom():
    store(JOINT.layers, 0, {f"walk{i}": torch.full((3, 9, 1, 4, 4), i, dtype=torch.uint8) for i in (1, 2)})
    axes = walks.draw(PLAN, ["joint"]).axes
    assert [ax.get_title() for ax in axes] == ["joint: layer 1 (bottom)", "joint: layer 2"]
    assert [float(ax.images[0].get_array()[0, 0]) * 16 for ax in axes] == [1, 2]


def test_latent_space_has_the_classes_and_the_accuracy_of_the_top_layer():
    means = torch.cat([torch.randn(40, 1, generator=torch.Generator().manual_seed(1)) * 3, torch.zeros(40, 1)], 1)
    store(JOINT.evaluations["layers"], 0, {"means/top": means, "kl": torch.zeros(40, 2)})
    metrics = frame(at_seeds("joint", "probe", (0.75, 0.5), layer="z2"), at_seeds("joint", "probe", (1, 1), layer="z1"))
    (ax,) = latent_space.draw(PLAN, ["joint"], metrics).axes
    assert ax.get_title() == "joint: z2 (75 %)"
    assert ax.get_xlabel() == "component 1: 100 %"
    assert [collection.get_label() for collection in ax.collections] == ["0", "1"]
    assert [len(collection.get_offsets()) for collection in ax.collections] == [20, 20]


def test_curves_of_perfect_and_of_constant_scores_are_the_known_ones():
    normal, outliers = np.zeros(30), np.ones(10)
    assert (outlier_curves.precision_recall([(normal, outliers)])[0] == 1).all()
    assert outlier_curves.roc([(normal, outliers)])[0, 1:].tolist() == [1.0] * 200
    constant = [(normal, np.zeros(10))]
    assert outlier_curves.roc(constant)[0].tolist() == pytest.approx(outlier_curves.GRID.tolist())
    assert (outlier_curves.precision_recall(constant)[0] == 0.25).all()  # all flagged: the share of outliers


def test_area_of_the_precision_recall_curve_is_the_average_precision():
    rng = np.random.default_rng(1)
    normal, outliers = rng.normal(size=400), rng.normal(1, size=200)  # the grid has a point for each outlier
    labels = np.repeat([0, 1], [400, 200])
    area = outlier_curves.precision_recall([(normal, outliers)])[0, 1:].mean()
    assert area == pytest.approx(average_precision_score(labels, np.concatenate([normal, outliers])), abs=1e-9)


def test_curves_have_a_column_per_set_and_a_line_per_variant_and_score():
    for seed, name in ((seed, name) for seed in PLAN.seeds for name in ("gaussian", "joint")):
        scores = {
            f"score/{of}/{score}": torch.rand(20) for of in ("test", "patches") for score in ("kl+f", "log-joint", "f")
        }
        store(PLAN.variants[name].evaluations["anomaly"], seed, scores)
    roc, precision_recall = outlier_curves.draw(PLAN, ["gaussian", "joint"]).axes
    labels = [line.get_label() for line in roc.lines if not line.get_label().startswith("_")]
    assert labels == ["gaussian kl+f", "gaussian log-joint", "joint kl+f", "joint log-joint"]
    assert roc.get_title() == "patches"
    assert precision_recall.get_ylabel() == "precision"
