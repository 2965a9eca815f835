"""``jebm.load`` and ``jebm.load_metrics``: a trained model without the pipeline, and what its methods compute."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toy
import yaml
from pydantic import TypeAdapter
from typer.testing import CliRunner

import jebm
from jebm.cli.main import app
from jebm.config.components import schema
from jebm.config.read import read_params
from jebm.errors import JebmError
from jebm.models.priors.base import build_prior
from jebm.pipeline.study import make_plan

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder in which the toy study's backbone and joint prior are trained at seed 0."""
    folder = tmp_path_factory.mktemp("project")
    before = Path.cwd()
    os.chdir(folder)
    try:
        Path("params.yaml").write_text(yaml.safe_dump(toy.params()), encoding="utf-8")
        for rule in ("prepare_dataset", "train_backbone", "train_prior"):
            done = CliRunner().invoke(app, ["run", rule, "toy", "--variant", "joint", "--seed", "0"])
            assert done.exit_code == 0, (done.output, done.exception)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def inside(project, monkeypatch):
    monkeypatch.chdir(project)
    return make_plan(read_params())["toy"].variants["joint"]


def test_a_variant_and_its_folder_are_the_same_model(inside, tmp_path, monkeypatch):
    named = jebm.load("toy/joint", seed=0)
    folder = inside.prior.run_folder(0).resolve()
    monkeypatch.chdir(tmp_path)  # a folder needs neither parameters nor the working folder
    alone = jebm.load(folder)
    eps = torch.randn(5, named.dimensions, generator=torch.Generator().manual_seed(1))
    assert torch.equal(named.decode(eps), alone.decode(eps))
    assert torch.equal(named.prior.tilt(eps), alone.prior.tilt(eps))
    assert alone.prior.tilt(eps).abs().sum() > 0
    assert (alone.kernel["name"], alone.steps, alone.levels) == ("pcnl", 5, 17)


def test_a_backbone_has_the_gaussian_prior(inside):
    model = jebm.load(inside.backbone.run_folder(0))
    eps = model.sample(4, seed=3)
    assert eps.shape == (4, 6)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(eps).sum(1)
    assert torch.allclose(model.log_density(eps), normal, atol=1e-5)
    assert torch.equal(eps, jebm.load("toy/gaussian", seed=0).sample(4, seed=3))


@pytest.mark.parametrize(
    ("block", "sampler"),
    [
        ({"name": "diffusion", "hidden": 8}, "Denoising"),
        ({"name": "recovery", "levels": 3, "energy": {"name": "layerwise", "hidden": 4}}, "Levels"),
        ({"name": "mixture", "components": [2]}, "Ancestral"),
        ({"name": "ebm", "energy": {"name": "layerwise", "hidden": 4}}, "NoneType"),
    ],
)
def test_without_a_variant_a_prior_is_sampled_as_its_kind_asks(inside, block, sampler):
    """A chain on the density of level 0, or through the ODE, would be another sampler than that of any variant."""
    model = jebm.load(inside.prior.run_folder(0))
    spec = TypeAdapter(schema("prior")).validate_python(block)
    prior = build_prior(spec, model.hierarchy)
    if hasattr(prior, "initialise"):
        prior.initialise(torch.Generator().manual_seed(0))
    own = replace(model, prior=prior.requires_grad_(False))
    assert type(own._natural_sampler()).__name__ == sampler
    assert own.sample(3).shape == (3, 6)


def test_the_density_is_normalised(inside):
    """The mean of p(ε) / N(ε; 0, I) over draws of N(0, I) is 1."""
    model = jebm.load("toy/joint", seed=0)
    log_z = model.log_partition(draws=20_000, seed=1)
    eps = torch.randn(20_000, 6, generator=torch.Generator().manual_seed(2))
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(eps).sum(1)
    ratio = (model.log_density(eps, log_z.value) - normal).exp().mean()
    assert abs(float(ratio) - 1) < 8 * (log_z.standard_error + 1e-4)


def test_shapes_seeds_and_units(inside):
    model = jebm.load("toy/joint", seed=0)
    images = model.decode(model.sample(3, seed=0))
    assert images.shape == (3, 1, 8, 8)
    levels = ((images.clamp(-1, 1) + 1) * 8).round().to(torch.uint8)
    posterior = model.infer(levels, seed=5)
    assert [tuple(layer.shape) for layer in posterior.eps] == [(3, 4), (3, 2)]
    assert torch.equal(posterior.log_q, model.infer(levels.float() / 8 - 1, seed=5).log_q)
    assert not torch.equal(posterior.log_q, model.infer(levels, seed=6).log_q)
    assert model.log_likelihood(images, draws=3, log_z=0.0).shape == (3,)
    start = torch.zeros(2, 6)
    assert torch.equal(model.chain(start=start, steps=0).x, start)
    assert model.chain(count=7, kernel={"name": "langevin", "step_size": 0.1}).x.shape == (7, 6)


@pytest.mark.parametrize(
    ("where", "seed", "expected"),
    [
        ("tooy/joint", 0, "there is no folder 'tooy/joint' and no study 'tooy'; did you mean 'toy'?"),
        ("toy/jiont", 0, "study 'toy' has no variant 'jiont'; did you mean 'joint'?"),
        ("toy/joint", 7, r"has the seeds \[0, 1\], not 7"),
        ("toy/joint", 1, "not trained yet; `snakemake --cores all runs/train_prior/"),
        ("data", 0, "is no folder of a finished training"),
    ],
)
def test_a_mistake_is_one_sentence(inside, where, seed, expected):
    with pytest.raises(JebmError, match=expected):
        jebm.load(where, seed=seed)


def test_the_recorded_results_are_a_table(monkeypatch):
    monkeypatch.chdir(ROOT)
    frame = jebm.load_metrics("digits")
    assert set(frame[frame.metric == "fd"].seed.dropna()) == {1, 2, 3}
    assert frame.equals(jebm.load_metrics(ROOT / "results/digits"))
    with pytest.raises(JebmError, match=r"results/digit/metrics\.csv: no such file"):
        jebm.load_metrics("digit")


def test_import_is_cheap():
    code = "import sys, jebm; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", ["load", "load_metrics"])
def test_what_is_public_is_described(name):
    assert "Raises:" in getattr(jebm, name).__doc__
