"""No cell misleads: bold only beyond the noise, doubtful values are marked, and every value has digits that show it."""

import pytest
from measured import at_seeds, frame
from toy import params

from jebm.config.read import parse_params
from jebm.config.tables import Table
from jebm.pipeline.study import make_plan
from jebm.report.soundness import BOLD
from jebm.report.table_format import latex
from jebm.report.tables import build_table

PLAN = make_plan(parse_params(params({"toy/seeds": [0, 1, 2]})))["toy"]


def table(*rows, **spec):
    base = {"variants": ["gaussian", "joint"], "metrics": ["fd"], "caption": "A caption."}
    return build_table(PLAN, Table.model_validate(base | spec), frame(*rows))


def cells(table):
    return {label: [cell.text("*{}*") for cell in row] for label, row in table.rows}


@pytest.mark.parametrize(
    ("joint", "bold"),
    [
        ((1.0, 5.0, 9.0), True),  # better by 1 at each seed, far below the noise over seeds
        ((1.0, 6.5, 9.5), False),  # better by 1, −0.5, 0.5
        ((2.0, 6.0, 10.0), False),  # the same
    ],
)
def test_bold_is_a_difference_beyond_the_noise(joint, bold):
    found = table(at_seeds("gaussian", "fd", (2.0, 6.01, 10.02)), at_seeds("joint", "fd", joint))
    assert ("*" in cells(found)["joint"][0]) == bold
    assert (BOLD in found.notes) == bold


def test_one_seed_has_no_noise_to_compare_with():
    assert "*" not in str(cells(table(at_seeds("gaussian", "fd", (9.0,)), at_seeds("joint", "fd", (1.0,)))))


LOG_Z = [
    *at_seeds("gaussian", "elbo", (1.0, 2.0, 3.0)),
    *at_seeds("joint", "elbo", (11.0, 12.0, 13.0)),
    *at_seeds("joint", "log_z_se", (0.8, 0.01, 0.02)),
    *at_seeds("mixture", "log_z_ess", (5e4, 5e4, 5e4)),
]


def test_a_bound_on_few_effective_draws_is_marked_and_never_the_best():
    few = at_seeds("joint", "log_z_ess", (1.4, 5e4, 5e4))
    found = table(LOG_Z, few, metrics=["elbo"])
    assert cells(found) == {"gaussian": ["2.00 ± 1.00"], "joint": ["12.00 ± 1.00 †"]}
    assert "† ELBO of joint: log Z rests on 1.4 effective draws at one seed, so this is no bound." in found.notes
    assert r"12.00 $\pm$ 1.00 $^\dagger$" in latex(found, "")


def test_a_bound_on_many_effective_draws_carries_the_error_of_log_z():
    many = at_seeds("joint", "log_z_ess", (1000.0, 5e4, 5e4))
    found = table(LOG_Z, many, metrics=["elbo"])
    assert cells(found)["joint"] == ["*12.00 ± 1.00*"]
    assert any("ELBO contains, is estimated, with a standard error of at most 0.8 nats" in note for note in found.notes)


def test_the_error_of_log_z_is_that_of_the_bounds_in_the_table():
    many, agrees = (
        at_seeds("joint", "log_z_ess", (1000.0, 5e4, 5e4)),
        at_seeds("joint", "log_z_agrees", (0.0, 1.0, 1.0)),
    )
    found = table(LOG_Z, many, agrees, metrics=["elbo"])
    assert any("with a standard error of at most 0.02 nats" in note for note in found.notes)


@pytest.mark.parametrize(("bias", "mark"), [(-0.2, " †"), (0.04, "")])
def test_a_bound_by_an_ode_with_a_bias_is_marked(bias, mark):
    error = at_seeds("joint", "ode_bias", (0.0, bias, 0.0))
    found = table(LOG_Z, at_seeds("joint", "log_z_ess", (5e4, 5e4, 5e4)), error, metrics=["elbo"])
    assert cells(found)["joint"][0].replace("*", "") == f"12.00 ± 1.00{mark}"
    assert ("† ELBO of joint: its ODE is off by 0.2 nats in the mean at one seed." in found.notes) == bool(mark)


def test_distances_of_samples_that_lost_chains_are_marked():
    rows = at_seeds("gaussian", "fd", (9.0, 9.1, 9.2)), at_seeds("joint", "fd", (1.0, 1.1, 1.2))
    found = table(*rows, at_seeds("joint", "non_finite", (0.0, 0.25, 0.0)))
    assert cells(found)["joint"] == ["1.10 ± 0.10 †"]
    assert "† FD of joint: up to 25.0% of the chains were not finite and were dropped." in found.notes


@pytest.mark.parametrize(
    ("values", "header", "shown"),
    [
        ((16_000.0, 17_000.0), "KD ×10⁻³ ↓", ["16.00", "17.00"]),
        ((0.198, 0.0021), "KD ×10³ ↓", ["198.00", "2.10"]),
        ((2.0, 31.0), "KD ↓", ["2.00", "31.00"]),
        ((2.0e6, 3.1e7), "KD ×10⁻⁶ ↓", ["2.00", "31.00"]),
    ],
)
def test_the_power_of_ten_fits_the_values(values, header, shown):
    rows = [at_seeds(name, "kd", (value,)) for name, value in zip(("gaussian", "joint"), values, strict=True)]
    found = table(*rows, at_seeds("real-data", "kd", (values[0] / 2,)), metrics=["kd"])
    assert found.headers[1] == header
    assert [row[0] for row in cells(found).values()] == shown
    floor = float(shown[0]) / 2
    assert found.notes[-1].startswith(header.removesuffix(" ↓"))
    assert found.notes[-1].endswith(f"(floor): {floor:.2f}.")
