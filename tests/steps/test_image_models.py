"""The published recipe and its alternatives, from parameters to metrics: the stages' own code, on the real digits."""

import json
from types import SimpleNamespace

import pytest
import torch
import toy
from measured import by_name

from jebm.config.read import parse_params
from jebm.errors import DivergedError, JebmError
from jebm.io.filenames import METRICS, RECORD, SAMPLES
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import make_plan
from jebm.steps import (
    draw_samples,
    evaluate_density,
    evaluate_samples,
    prepare_dataset,
    train_backbone,
    train_features,
    train_joint,
    train_prior,
)
from jebm.steps.run import StageRun

BACKBONE = {
    "name": "convolutional", "latent_dims": [4, 3], "channels": [6, 4], "hidden": 8, "depth": 1,
    "inference_features": 6,
}  # fmt: skip
PAPER = {"kernel": {"name": "langevin", "step_size": 0.4}, "steps": 4, "space": "z"}
POSTERIOR = {"kernel": {"name": "langevin", "step_size": 0.02}, "steps": 3, "space": "z"}
OURS = {"kernel": {"name": "pcnl", "step_size": 0.3}, "steps": 4}
ENERGY = {"hidden": [8, 6], "depth": [2, 1], "activation": "leaky-relu", "start": "random"}
OPTIMISER = {
    "steps": 6, "batch_size": 20, "learning_rate": 1e-4, "energy_learning_rate": 2e-5, "schedule": "constant",
    "log_interval": 2,
}  # fmt: skip


def joint(method="mcmc", chain=PAPER, **changes):
    posterior = {"posterior_chain": POSTERIOR} if method == "mcmc" else {}
    return {"train_joint": {**OPTIMISER, "method": method, "chain": chain, **posterior, **changes}}


def sampler(chain):
    return {"draw_samples": {"sampler": {**chain, "name": "mcmc", "chains": 30}}}


LOGISTIC = {"likelihood": {"name": "logistic-mixture", "levels": 17, "components": 2}}
LEARNED = {"likelihood": {"name": "gaussian", "learned": True}}
VARIANTS = {
    "paper": joint() | sampler(PAPER),
    "ours": joint(chain=OURS, energy_l2=0.1, ema=0.9, posterior_start="network", betas=[0.5, 0.99]) | sampler(OURS),
    "variational": joint("variational", learning_rate=0.05)
    | sampler({**PAPER, "start": "prior"})
    | {"backbone": LOGISTIC},
    "maps": joint(chain=PAPER | {"start": "prior"})
    | sampler(PAPER)
    | {
        "backbone": {
            "name": "residual",
            "layers_per_scale": [1, 1],
            "resolutions": [8, 4],
            "channels": [4, 6],
            "latent_channels": 1,
            "inference_hidden": 4,
            **LOGISTIC,
        },
        "prior": {"energy": {"name": "convolutional", "channels": 3, "hidden": 5}},
    },
    "two-stage": {"train_prior": {"estimator": PAPER | {"name": "short-run"}, "energy_l2": 0.1}, "backbone": LEARNED}
    | sampler(PAPER),
}


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """Runs all stages of a variant in an empty folder; what they leave is in the answer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode: None)  # a setting of the whole process

    def go(variant, measure=False, **changes):
        base = {
            "toy/backbone": BACKBONE, "toy/prior/energy": {"name": "layerwise", **ENERGY}, "toy/seeds": [0],
            "toy/train_backbone/kl_warmup": [[0.0, 0.5]],
            "toy/evaluate_density": {"importance_samples": 3, "detection_samples": 2, "partition_samples": 200},
            "toy/variants": {"v": variant}, "toy/tables": {}, "toy/figures": {},
        }  # fmt: skip
        plan = make_plan(parse_params(toy.params(base | changes)))["toy"]
        v = plan.variants["v"]

        def run(module, stage, seed=0):
            module.run(StageRun(plan, v, stage, seed))
            return stage.run_folder(seed)

        run(prepare_dataset, v.dataset, None)
        if v.joint:
            trained = run(train_joint, v.backbone)
        else:
            run(train_backbone, v.backbone)
            trained = run(train_prior, v.prior)
        samples, density = run(draw_samples, v.samples), run(evaluate_density, v.density_metrics)
        values, distances = json.loads((density / METRICS).read_text()), {}
        if measure:
            run(train_features, v.features, None)
            measured = run(evaluate_samples, v.sample_metrics) / METRICS
            distances = {value["metric"]: value["value"] for value in json.loads(measured.read_text())["values"]}
        return SimpleNamespace(
            record=json.loads((trained / RECORD).read_text()),
            history=(trained / "history.csv").read_text().splitlines(),
            samples=read_tensors(samples / SAMPLES)[0],
            metrics=by_name(values["values"]),
            protocols=json.dumps(values),
            distances=distances,
        )

    return go


@pytest.mark.parametrize("name", VARIANTS)
def test_recipe_goes_from_parameters_to_metrics(stages, name):
    found = stages(VARIANTS[name])
    assert found.samples["images"].shape == (100, 1, 8, 8)
    assert found.samples["images"].unique().numel() > 1
    assert torch.isfinite(found.samples["eps"]).all()
    assert torch.isfinite(found.samples["tilt"]).all()
    assert all(torch.isfinite(torch.tensor(found.metrics[key])) for key in ("elbo", "iw_bound", "log_z"))
    assert ("mass on 17 levels" in found.protocols) == (name in ("variational", "maps"))
    if name in ("paper", "two-stage"):  # what the reader must know of a floor under a step is in the record
        assert found.record["min_sigma"] == 0.01
        chain = "chain" if name == "paper" else "estimator"
        assert found.record[f"{chain}_stable_above_sigma"] == 0.2


def test_levels_of_likelihood_and_data_must_agree(stages):
    message = r"toy\.backbone\.likelihood\.levels: is 256, but the dataset 'digits' has 17 levels; set it to 17"
    block = {"likelihood": {"name": "logistic-mixture", "levels": 256}}
    for variant in (joint("variational") | {"backbone": block}, {"backbone": block}):
        with pytest.raises(JebmError, match=message):
            stages(variant | sampler(OURS))


UNSTABLE = {"backbone": {"sigma_start": 0.02, "min_sigma": 0.0001}}
"""Far narrower than the step: every move overshoots, and each overshoot is larger than the one before."""
FAR = {"steps": 40, "learning_rate": 1e-3}


def test_joint_training_whose_steps_exceed_the_scales_fails_and_says_so(stages, capsys):
    with pytest.raises(DivergedError, match=r"stopped before the optimiser stepped"):
        stages(UNSTABLE | joint(**FAR, chain={**PAPER, "steps": 30}) | sampler(OURS))
    assert "stable only while σ > 0.2, and the backbone's σ may fall to 0.0001" in capsys.readouterr().err


def test_joint_training_that_may_diverge_publishes_what_it_had_and_when(stages):
    variant = joint(**FAR, allow_divergence=True, chain={**PAPER, "steps": 30})
    found = stages(UNSTABLE | variant | sampler(OURS))
    assert found.record["diverged_at"] == found.record["steps"] + 1 <= 40
    assert torch.isfinite(found.samples["eps"]).all()


def test_sampling_whose_steps_exceed_the_scales_fails(stages):
    chain = {**PAPER, "steps": 60}
    with pytest.raises(DivergedError, match="of 100 chains are not finite after 60 steps"):
        stages(UNSTABLE | joint("variational", chain=OURS) | sampler(chain))


def test_sampling_that_may_diverge_publishes_no_image_and_says_that_all_are_lost(stages, capsys):
    chain = {**PAPER, "steps": 60}
    drawn = sampler(chain)
    drawn["draw_samples"]["sampler"]["allow_divergence"] = True
    found = stages(UNSTABLE | joint("variational", chain=OURS) | drawn, measure=True)
    assert found.samples["images"].shape == (0, 1, 8, 8)
    assert found.samples["eps"].shape[0] == found.samples["tilt"].shape[0] == 0
    assert found.distances == {"acceptance": 1, "langevin_steps": 60, "non_finite": 1}
    assert "all chains diverged" in capsys.readouterr().err
