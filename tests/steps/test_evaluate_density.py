"""log Z by estimates that must agree, and the bound on log p(x) in nats and in bits, on two latent dimensions."""

import pytest
import torch
from measured import by_name
from oracles import SIGMAS, grid, mild_prior
from toy import params

from jebm.config.read import parse_params
from jebm.data.dataset import Dataset
from jebm.io.filenames import IMAGES
from jebm.metrics.likelihood import bits_per_dimension
from jebm.models.priors.gaussian import GaussianPrior
from jebm.pipeline.study import make_plan
from jebm.runtime.random import make_rng
from jebm.steps.evaluate_density import Density
from jebm.steps.run import StageRun

SETTINGS = {
    "importance_samples": 4, "partition_samples": 20_000, "annealing": {"temperatures": 60, "chains": 400},
}  # fmt: skip


def measure(hierarchy, prior, **changes):
    """What the job of a toy variant records of this prior on 60 images of four pixels."""
    images = torch.randint(0, 17, (60, 1, 2, 2), generator=make_rng("images"), dtype=torch.uint8)
    data = Dataset({"test": images}, {"levels": 17, "image_shape": [1, 2, 2], "sha256": {IMAGES: "0"}})
    plan = make_plan(parse_params(params({"toy/evaluate_density": SETTINGS | changes})))["toy"]
    variant = plan.variants["joint"]
    density = Density(StageRun(plan, variant, variant.density_metrics, 1), data, hierarchy, prior)
    density.add_likelihood()
    return by_name(density.record.values), density


def test_estimates_agree_with_quadrature():
    hierarchy, prior = mild_prior()
    values, density = measure(hierarchy, prior)
    points = grid()
    exact = points.log_integral(prior.log_prob(points.points))
    for name, draws in {"importance": 20_000, "normal": 20_000, "lower": 400, "upper": 400}.items():
        assert abs(values[f"log_z {name}"] - exact) < SIGMAS * (values[f"log_z_se {name}"] + 0.01)
        assert 0.05 * draws < values[f"log_z_ess {name}"] <= draws
    assert values["log_z"] == values["log_z importance"]
    trusted = [values[f"log_z {name}"] for name in ("importance", "lower", "upper")]
    assert values["log_z_gap"] == pytest.approx(max(trusted) - min(trusted))
    assert values["log_z_agrees"] == 1
    assert density.arrays["annealing/forward"].shape == density.arrays["annealing/reverse"].shape == (400,)


def test_without_annealing_the_estimate_from_n_0_i_must_agree():
    hierarchy, prior = mild_prior()
    values, _ = measure(hierarchy, prior, annealing=None)
    assert values["log_z_gap"] == pytest.approx(abs(values["log_z importance"] - values["log_z normal"])) != 0
    assert values["log_z_agrees"] == 1


def test_without_agreement_no_bound_is_reported(capsys):
    """20 draws of a tilt of many nats: the standard error alone says that the estimate is worth nothing."""
    hierarchy, prior = mild_prior()
    for net in prior.energy.nets.values():
        net[-1].weight.data.mul_(10)
    values, _ = measure(hierarchy, prior, partition_samples=20, annealing=None)
    assert values["log_z_se importance"] > 0.1
    assert values["log_z_agrees"] == 0
    assert not {"iw_bound", "elbo", "bits_per_dim"} & set(values)
    assert "no bound on log p(x) is reported" in capsys.readouterr().err


def test_gaussian_prior_needs_no_annealing_and_shares_the_protocol():
    hierarchy, prior = mild_prior()
    _, learned = measure(hierarchy, prior)
    values, gaussian = measure(hierarchy, GaussianPrior(hierarchy))
    assert set(values) == {"iw_bound", "elbo", "bits_per_dim"}
    assert set(gaussian.arrays) == {"tilt/posterior", "iw_bound", "log_z_se"}
    assert set(gaussian.record.protocols) < set(learned.record.protocols)
    assert values["bits_per_dim"] == pytest.approx(bits_per_dimension(values["iw_bound"], 4, 2 / 16))
