"""Metric records and their protocols."""

import pytest

from jebm.errors import JebmError
from jebm.metrics.records import MetricRecord, load_record, protocol_id
from jebm.steps.evaluate_density import Density


def test_record_comes_back_as_it_was(tmp_path):
    record = MetricRecord(3)
    protocol = record.protocol("fd", {"features": "classifier", "count": 500})
    record.add("fd", 1.25, 500, protocol, set="a")
    record.save(tmp_path / "metrics.json")
    loaded = load_record(tmp_path / "metrics.json")
    assert loaded == record
    assert loaded.values == [{"metric": "fd", "set": "a", "value": 1.25, "n": 500, "protocol": protocol}]
    assert loaded.protocols == {protocol: {"features": "classifier", "count": 500}}


def test_protocol_is_known_by_its_facts_in_any_order():
    assert protocol_id("fd", {"a": 1, "b": 2}) == protocol_id("fd", {"b": 2, "a": 1})
    assert protocol_id("fd", {"a": 1, "b": 2}) != protocol_id("fd", {"a": 1, "b": 3})
    assert protocol_id("fd", {}).startswith("fd@")


def test_missing_record_says_what_makes_it(tmp_path):
    with pytest.raises(JebmError, match=r"no such file; `snakemake .*metrics.json` makes it"):
        load_record(tmp_path / "metrics.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_density_of_a_model_that_may_diverge_leaves_out_what_is_not_finite_and_no_other_does(value, capsys):
    density = object.__new__(Density)
    density.record, density.title, density.allow_divergence = MetricRecord(1), "a prior", True
    density._add("elbo", value, 10, "p@1")
    density._add("elbo", -3.0, 10, "p@1")
    assert [row["value"] for row in density.record.values] == [-3.0]
    assert "elbo is" in capsys.readouterr().err
    density.allow_divergence = False
    with pytest.raises(JebmError, match="a prior: elbo is"):
        density._add("elbo", value, 10, "p@1")
