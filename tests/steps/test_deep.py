"""The deep hierarchy through its stages, on the real digits: what the published recipe asks for, at toy size."""

import json
from types import SimpleNamespace

import pytest
import torch
import toy
from measured import by_name

from jebm.config.components import build
from jebm.config.read import parse_params
from jebm.errors import DivergedError, ParamsError
from jebm.io.filenames import HISTORY, METRICS, RECORD, SAMPLES, WEIGHTS
from jebm.io.tensors import read_tensors, write_tensors
from jebm.pipeline.study import make_plan
from jebm.steps import draw_samples, prepare_dataset, run_evaluation, train_backbone, train_features, train_prior
from jebm.steps.models import load_backbone
from jebm.steps.run import StageRun

BACKBONE = {
    "name": "nvae", "layers_per_scale": [2, 1], "latent_channels": 1, "encoder_channels": 4, "decoder_channels": 4,
    "preprocess_cells": 1, "postprocess_cells": 1, "encoder_cells": 1, "decoder_cells": 1,
    "likelihood": {"name": "nvae-logistic-mixture", "levels": 17, "components": 2},
}  # fmt: skip
STAGE_1 = {
    "steps": 8, "batch_size": 16, "optimizer": "adamax", "epsilon": 1e-3, "learning_rate": 0.01, "warmup_steps": 2,
    "final_learning_rate": 0.01, "weight_decay": 3e-4, "kl_warmup": [[1e-4, 0.3001]], "min_kl_weight": 1e-4,
    "kl_balance": "scale", "spectral_penalty": 0.01, "batch_norm_penalty": 0.01, "skip_non_finite": 3,
    "log_interval": 4, "ema": 0.5,
}  # fmt: skip
KERNEL = {"name": "pcnl", "step_size": 0.1, "adjusted": True}
STAGE_2 = {
    "steps": 6, "batch_size": 8, "optimizer": "adam", "betas": [0.99, 0.999], "learning_rate": 1e-3,
    "weight_decay": 3e-5, "schedule": "constant", "log_interval": 2,
    "estimator": {"name": "short-run", "kernel": KERNEL, "steps": 2, "adaptation_steps": 4},
}  # fmt: skip
RECALIBRATE = {"passes": 3, "batch_size": 4, "temperature": 0.7}
SAMPLER = {"name": "mcmc", "kernel": KERNEL, "steps": 2, "chains": 10, "step_size": "adapted"}
WHITE = {"name": "whiteness", "kernel": {"name": "langevin", "step_size": 0.3}, "steps": 3, "count": 20}


def plan_of(**changes):
    base = {
        "toy/backbone": BACKBONE, "toy/seeds": [0], "toy/train_backbone": STAGE_1, "toy/train_prior": STAGE_2,
        "toy/prior/energy": {"name": "convolutional", "channels": 4, "hidden": 8, "layers": {"top_scales": 1}},
        "toy/draw_samples": {"count": 20, "sampler": SAMPLER}, "toy/evaluations": {"white": WHITE},
        "toy/features": {"name": "classifier", "dimensions": 8, "steps": 1},
        "toy/variants": {"v": {}, "recalibrated": {"draw_samples": {"recalibrate": RECALIBRATE}}},
        "toy/tables": {}, "toy/figures": {},
    }  # fmt: skip
    return make_plan(parse_params(toy.params(base | changes)))["toy"]


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """A plan in an empty folder, and ``run(module, variant, kind)`` for its stages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode: None)  # a setting of the whole process

    def make(**changes):
        plan = plan_of(**changes)

        def run(module, kind, name="v"):
            variant = plan.variants[name]
            stage = variant.evaluations["white"] if kind == "white" else getattr(variant, kind)
            seed = 0 if stage.per_seed else None
            module.run(StageRun(plan, variant, stage, seed))
            return stage.run_folder(seed)

        run(prepare_dataset, "dataset")
        return SimpleNamespace(plan=plan, run=run)

    return make


def record(folder):
    return json.loads((folder / RECORD).read_text())


def test_from_images_to_samples_with_the_adapted_step(stages):
    made = stages()
    backbone, prior = made.run(train_backbone, "backbone"), made.run(train_prior, "prior")
    assert record(backbone)["skipped"] == 0
    assert "recalibrated" not in record(backbone)
    assert "spectral_norms,batch_norm_gains" in (backbone / HISTORY).read_text().splitlines()[0]
    learned = record(prior)["step_size"]
    weights, header = read_tensors(prior / WEIGHTS)
    assert header["step_size"] == learned != 0.1
    assert {key.split(".")[2] for key in weights} == {"3"}  # the only layer of the coarsest scale
    plain, recalibrated = made.run(draw_samples, "samples"), made.run(draw_samples, "samples", "recalibrated")
    (first, about), (second, other) = (read_tensors(folder / SAMPLES) for folder in (plain, recalibrated))
    assert about["diagnostics"]["step_size"] == learned
    assert not any(key.startswith("recalibration") for key in about["diagnostics"])
    assert {k: v for k, v in other["diagnostics"].items() if k.startswith("recalibration")} == {
        "recalibration_passes": 3, "recalibration_batch_size": 4, "recalibration_temperature": 0.7,
    }  # fmt: skip
    assert not torch.equal(first["images"], second["images"])
    made.run(draw_samples, "samples", "recalibrated")
    again, _ = read_tensors(recalibrated / SAMPLES)
    assert torch.equal(again["images"], second["images"])  # seeded: it repeats to the bit


def test_whiteness_of_the_deep_hierarchy(stages):
    made = stages()
    made.run(train_backbone, "backbone")
    made.run(train_prior, "prior")
    made.run(train_features, "features")
    values = json.loads((made.run(run_evaluation, "white") / METRICS).read_text())["values"]
    found = by_name(values)
    assert {f"noise_variance {d} z{i}" for d in ("exact", "biased") for i in (1, 2, 3)} <= set(found)
    assert found["noise_variance exact z1"] == pytest.approx(found["noise_variance_predicted"], rel=0.2)


def test_recalibrated_backbone_is_published_with_its_own_statistics(stages, monkeypatch):
    made = stages(**{"toy/train_backbone": STAGE_1 | {"recalibrate": RECALIBRATE}})
    folder = made.run(train_backbone, "backbone")
    assert record(folder)["recalibrated"] == RECALIBRATE
    after, _ = read_tensors(folder / WEIGHTS)
    monkeypatch.setattr(train_backbone, "recalibrate_if_asked", lambda *arguments: {})
    before, _ = read_tensors(made.run(train_backbone, "backbone") / WEIGHTS)  # from the state of the same run
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all("running" in name or "num_batches" in name for name in moved)
    assert not any(name.startswith(("preprocess", "stem")) or ".encoder." in name for name in moved)


def test_statistics_that_are_not_finite_after_recalibration_stop_the_run(stages):
    made = stages()
    folder = made.run(train_backbone, "backbone")
    made.run(train_prior, "prior")
    weights, header = read_tensors(folder / WEIGHTS)
    name = next(name for name in weights if name.startswith("groups.0.decoder") and name.endswith("weight"))
    weights[name] *= 1e38
    write_tensors(folder / WEIGHTS, weights, header)
    with pytest.raises(DivergedError, match=r"not finite after recalibration with 3 passes at temperature 0.7"):
        made.run(draw_samples, "samples", "recalibrated")
    assert not (made.plan.variants["recalibrated"].samples.run_folder(0) / SAMPLES).exists()


def test_loaded_backbone_is_frozen_and_in_evaluation_mode(stages):
    made = stages()
    made.run(train_backbone, "backbone")
    variant = made.plan.variants["v"]
    hierarchy = load_backbone(StageRun(made.plan, variant, variant.prior, 0), (1, 8, 8))
    assert not hierarchy.training
    assert not any(p.requires_grad for p in hierarchy.parameters())
    assert type(build("backbone", variant.params.backbone, (1, 8, 8))) is type(hierarchy)


@pytest.mark.parametrize(
    ("block", "key", "value"),
    [
        ("train_backbone", "spectral_penalty", 0.1),
        ("train_backbone", "recalibrate", RECALIBRATE),
        ("draw_samples", "recalibrate", RECALIBRATE),
    ],
)
def test_backbones_without_batch_norm_are_refused(block, key, value):
    with pytest.raises(ParamsError, match=rf"toy.{block}.{key}: the backbone 'perceptron' has no batch norm"):
        parse_params(toy.params({f"toy/{block}/{key}": value}))
