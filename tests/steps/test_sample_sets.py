"""Several sample sets of one seed: their streams, what is measured on them, and how its noise is reported; and decoded
posterior draws."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy
from measured import by_name

from jebm.config.read import parse_params
from jebm.io.filenames import METRICS, RECORD, SAMPLES, WEIGHTS, image_set
from jebm.io.files import read_json
from jebm.io.tensors import read_tensors, read_weights, write_tensors
from jebm.pipeline.study import make_plan
from jebm.report.tables import preview
from jebm.steps import (
    draw_samples,
    evaluate_floor,
    evaluate_samples,
    prepare_dataset,
    train_backbone,
    train_features,
    train_prior,
)
from jebm.steps.draw_samples import decode_images
from jebm.steps.models import load_backbone
from jebm.steps.run import StageRun

GAUSSIAN = {"prior": {"name": "gaussian"}}
ANCESTRAL = {"name": "ancestral"}
POSTERIOR = {
    "prior": {"name": "aggregate-posterior", "draws": 2, "images": 60},
    "draw_samples": {"sets": 2},
    "evaluate_samples": {"manifold_images": 40},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Samples of a tiny study and their distances, with one, two and three sets."""
    sets = {f"sets-{n}": GAUSSIAN | {"draw_samples": {"sets": n, "sampler": ANCESTRAL}} for n in (1, 2, 3)}
    plan = make_plan(parse_params(toy.params({
        "toy/seeds": [0], "toy/features": {"name": "classifier", "dimensions": 8, "steps": 30},
        "toy/train_backbone/steps": 150, "toy/train_backbone/learning_rate": 0.01, "toy/train_backbone/batch_size": 64,
        "toy/draw_samples": {"count": 60, "batch_size": 25, "sampler": ANCESTRAL}, "toy/prior": {"name": "gaussian"},
        "toy/variants": {**sets, "posterior": POSTERIOR}, "toy/figures": {},
        "toy/tables": {
            "main": {"variants": ["sets-3"], "metrics": ["fd", "kd"]},
            "by-seed": {"variants": ["sets-3"], "metrics": ["fd"], "rows": ["seed"]},
        },
    })))["toy"]  # fmt: skip

    def job(variant, role):
        stage = getattr(plan.variants[variant], role)
        return StageRun(plan, plan.variants[variant], stage, 0 if stage.per_seed else None)

    def run(module, variant, role):
        one = job(variant, role)
        module.run(one)
        return one.folder

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("sets"))
        patch.setattr(torch, "use_deterministic_algorithms", lambda mode: None)  # a setting of the whole process
        for module, role in ((prepare_dataset, "dataset"), (train_features, "features"), (train_backbone, "backbone")):
            run(module, "sets-1", role)
        run(evaluate_floor, "sets-1", "floor")
        samples, metrics = {}, {}
        for name in sets:
            samples[name], _ = read_tensors(run(draw_samples, name, "samples") / SAMPLES)
            metrics[name] = json.loads((run(evaluate_samples, name, "sample_metrics") / METRICS).read_text())
        yield SimpleNamespace(plan=plan, job=job, run=run, samples=samples, metrics=metrics)


def measured(study, variant):
    """The record of the samples that lie in the variant's folder."""
    return json.loads((study.run(evaluate_samples, variant, "sample_metrics") / METRICS).read_text())


def values(metrics):
    return by_name(metrics["values"])


def test_a_set_does_not_depend_on_how_many_there_are(study):
    one, two, three = (study.samples[f"sets-{n}"] for n in (1, 2, 3))
    for name in ("images", "eps", "tilt"):
        assert torch.equal(one[name], two[name])
    assert torch.equal(two[image_set(2)], three[image_set(2)])
    assert set(three) == {"images", "images-2", "images-3", "eps", "tilt"}  # latents are those of the first set


def test_sets_are_drawn_from_different_streams(study):
    three = study.samples["sets-3"]
    assert all(three[image_set(number)].shape == (60, 1, 8, 8) for number in (1, 2, 3))
    pictures = torch.cat([three[image_set(number)] for number in (1, 2, 3)]).flatten(1)
    assert len(pictures.unique(dim=0)) == len(pictures)


def test_value_is_the_mean_over_the_sets_and_noise_their_standard_deviation(study):
    """Each set is also measured alone, as the only set of its samples."""
    path = study.plan.variants["sets-1"].samples.run_folder(0) / SAMPLES
    whole, alone = path.read_bytes(), []
    for number in (1, 2, 3):
        images = study.samples["sets-3"][image_set(number)]
        write_tensors(path, {"images": images}, {"diagnostics": {}})
        alone.append(values(measured(study, "sets-1")))
    path.write_bytes(whole)
    study.run(evaluate_samples, "sets-1", "sample_metrics")
    together = values(study.metrics["sets-3"])
    for metric in ("fd", "kd"):
        assert together[metric] == pytest.approx(np.mean([one[metric] for one in alone]), rel=1e-12)
        assert together[f"{metric}_noise"] == pytest.approx(np.std([one[metric] for one in alone], ddof=1), rel=1e-9)
    assert alone[0] == values(study.metrics["sets-1"])


def test_record_says_how_many_sets_of_which_size(study):
    one, three = (study.metrics[name] for name in ("sets-1", "sets-3"))
    assert not any(row["metric"].endswith("_noise") for row in one["values"])
    assert all("sets" not in facts for facts in one["protocols"].values())
    for row in three["values"]:
        if row["metric"].endswith("_noise"):
            facts = three["protocols"][row["protocol"]]
            assert (facts["sets"], facts["sample_count"]) == (3, 60)
    for metric in ("fd", "kd"):  # comparable with each other, since the number of sets is no bias
        same = [row["protocol"] for record in (one, three) for row in record["values"] if row["metric"] == metric]
        assert same[0] == same[1]
    assert {row["n"] for row in three["values"]} == {60}


def test_sets_with_dropped_chains_are_cut_to_the_smallest(study):
    """A distance is biased by the number of samples, so the sets must have equal sizes to be averaged."""
    path = study.plan.variants["sets-2"].samples.run_folder(0) / SAMPLES
    whole, two = path.read_bytes(), study.samples["sets-2"]
    found = []
    for first in (two["images"], two["images"][:50]):
        header = {"diagnostics": {"non_finite": 0.1}}
        write_tensors(path, {"images": first, "images-2": two["images-2"][:50]}, header)
        found.append(measured(study, "sets-2"))
    path.write_bytes(whole)
    study.run(evaluate_samples, "sets-2", "sample_metrics")
    (n,) = {row["n"] for row in found[0]["values"] if row["metric"] == "fd"}
    assert n == 50
    assert values(found[0])["fd"] == values(found[1])["fd"]
    assert [row["n"] for row in found[0]["values"] if row["metric"] == "non_finite"] == [110]


def test_tables_print_the_noise(study):
    found = values(study.metrics["sets-3"])
    fd, noise = (f"{found[name]:.2f}" for name in ("fd", "fd_noise"))
    main = preview(study.plan, "main")
    power = re.search(r"KD ×10(\S+) ↓", main)[1].translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    kd = f"{found['kd_noise'] * 10.0 ** int(power):.2f}"  # in the unit that the table chose
    note = "the value of a seed is the mean over 3 sample sets of this size; their standard deviation within a seed is"
    assert f"- FD: {note} {noise} to {noise}.\n" in main
    assert re.search(rf"- KD ×10\S+: {note} {kd} to {kd}\.\n", main)
    assert f"| {fd} " in main
    by_seed = preview(study.plan, "by-seed")
    assert f"| {fd} ± {noise} " in by_seed
    assert "the mean over 3 sample sets of this size, ± the standard deviation over these sets.\n" in by_seed


def test_posterior_draws_are_those_of_the_inference_network_and_of_other_rows_in_each_set(study):
    """Two sets of 60 use all draws, two at each of 60 training images, and the images are what the draws decode to."""
    folder = study.run(train_prior, "posterior", "prior")
    rows, record = read_weights(folder / WEIGHTS)["rows"], read_json(folder / RECORD)
    assert rows.shape == (120, 6)
    assert (record["draws"], record["parameters"]) == (120, 0)
    found, _ = read_tensors(study.run(draw_samples, "posterior", "samples") / SAMPLES)
    assert set(found) == {"images", "images-2", "eps"}  # there is no tilt
    of_rows = (found["eps"][:, None] == rows).all(-1)
    assert of_rows.sum() == 60
    rest = rows[~of_rows.any(0)]
    job = study.job("posterior", "samples")
    hierarchy = load_backbone(job, (1, 8, 8))
    decoded = decode_images(hierarchy, rest, job.dataset().levels).flatten(1)
    assert torch.equal(decoded.unique(dim=0), found["images-2"].flatten(1).unique(dim=0))
    record = measured(study, "posterior")
    assert {"fd_noise", "precision_noise", "recall_noise"} <= set(values(record))
    assert 0 < values(record)["precision"] <= 1
    (facts,) = [facts for facts in record["protocols"].values() if "neighbours" in facts and "sets" not in facts]
    assert (facts["kept"], facts["reference_kept"]) == (40, 40)
    assert "precision" not in values(study.metrics["sets-1"])  # unless they are asked for
