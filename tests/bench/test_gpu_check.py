"""jebm gpu-check on the CPU: what it measures, and that a device that computes otherwise is named."""

import pytest
import torch
from toy import params

from jebm.bench import gpu_check
from jebm.bench.study import choose_device
from jebm.cli.tools import CHECKED, CHECKED_ON_CPU, CHECKED_WITH_CHECKPOINTING
from jebm.config.read import parse_params, read_params
from jebm.errors import JebmError
from jebm.pipeline.study import make_plan

CPU = torch.device("cpu")


@pytest.fixture
def variant():
    """A variant with a prior that has an energy."""
    plan = make_plan(parse_params(params()))["toy"]
    return next(one for one in plan.variants.values() if one.params.prior.name == "ebm")


def test_rates_of_the_cpu_are_positive_and_have_no_tf32():
    found = gpu_check.rates(CPU, 64, 0.01)
    assert set(found) == {"fp32", "bf16", "memory"}
    assert min(found.values()) > 0


def test_a_device_agrees_with_itself(variant, tmp_path):
    rows = gpu_check.agreement("toy", variant.params, (1, 8, 8), CPU, tmp_path)
    assert len(rows) == 9
    assert all(row.difference <= 1e-6 and row.verdict == "agrees" for row in rows)


def test_what_the_command_measures_by_default_exists():
    plans = make_plan(read_params())
    for label in (*CHECKED, *CHECKED_ON_CPU, *CHECKED_WITH_CHECKPOINTING):
        study, name = label.split("/")
        assert name in plans[study].variants


def test_the_file_has_all_sections(variant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = gpu_check.run({"toy/joint": variant}, {}, choose_device(variant.params.compute, "cpu"), 0.5)
    text = path.read_text(encoding="utf-8")
    for title in ("Rates", "Agreement with the CPU", "Costs", "Memory of a step"):
        assert f"## {title}" in text
    assert "stage 1 step" in text
    assert " %)" in text


def test_a_device_that_differs_is_an_error_that_names_the_quantity(variant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = gpu_check._quantities
    calls = []

    def wrong(*arguments):
        calls.append(None)
        found = first(*arguments)
        return found if len(calls) == 1 else found | {"gradient": found["gradient"] * 1.01}

    monkeypatch.setattr(gpu_check, "_quantities", wrong)
    with pytest.raises(JebmError, match=r"differs from the CPU by more than 0\.001: toy/joint: gradient"):
        gpu_check.run({"toy/joint": variant}, {}, choose_device(variant.params.compute, "cpu"), 0.5)
    assert list(tmp_path.glob("results/gpu/*.md"))
