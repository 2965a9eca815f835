"""The partition evaluation: log Z between its bounds, and log p(x) in bits."""

import math

import pytest
from measured import by_name
from oracles import SIGMAS, grid, spec

from jebm.config.components import build
from jebm.evaluations.partition import bits_per_dimension
from jebm.metrics.records import MetricRecord
from jebm.models.priors.gaussian import GaussianPrior


def measure(subject):
    record, block = MetricRecord(1), {"temperatures": 60, "chains": 400, "pool": 20_000, "importance_samples": 4}
    arrays = build("evaluation", spec("evaluation", name="partition", **block)).evaluate(subject, record)
    return by_name(record.values), record, arrays


def test_three_estimates_agree_with_quadrature(subject):
    values, _, arrays = measure(subject)
    points = grid()
    exact = points.log_integral(subject.prior.log_prob(points.points))
    for name in ("importance", "lower", "upper"):
        assert abs(values[f"log_z {name}"] - exact) < SIGMAS * (values[f"log_z_se {name}"] + 0.01)
        assert 0.1 < values[f"log_z_ess {name}"] <= 1
    assert values["log_z_gap"] == pytest.approx(values["log_z upper"] - values["log_z lower"])
    assert arrays["forward"].shape == arrays["reverse"].shape == (400,)


def test_gaussian_prior_needs_no_annealing_and_shares_the_protocol(subject):
    _, learned, _ = measure(subject)
    subject.prior = GaussianPrior(subject.hierarchy)
    values, gaussian, arrays = measure(subject)
    assert set(values) == {"iw_bound_annealed", "bits_per_dim"}
    assert not arrays
    assert set(gaussian.protocols) < set(learned.protocols)
    expected = bits_per_dimension(values["iw_bound_annealed"], 4, 2 / 16)
    assert values["bits_per_dim"] == pytest.approx(expected)


def test_bits_of_a_uniform_density_are_the_logarithm_of_the_number_of_cells():
    """Uniform on [−1, 1]^D: log p = −D log 2; 16 cells of width 1/8 each take 4 bits a dimension."""
    assert bits_per_dimension(-10 * math.log(2), 10, 1 / 8) == pytest.approx(4)
