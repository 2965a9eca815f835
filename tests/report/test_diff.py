"""Verdicts of ``jebm diff`` on simulated metrics with a known answer."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from jebm.errors import JebmError
from jebm.report.diff import agreement, as_json, as_text, compare, load_version, welch


def frame(values: dict[tuple[str, str], list[float]], protocol: str = "p@1") -> pd.DataFrame:
    """(variant, metric) → a value a seed."""
    rows = [
        {"variant": variant, "seed": seed, "metric": metric, "value": value, "n": 100, "protocol": protocol}
        for (variant, metric), numbers in values.items()
        for seed, value in enumerate(numbers, 1)
    ]
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def verdicts(a, b) -> dict[str, str]:
    return {row.metric: row.verdict for row in compare(frame(a), frame(b))}


def test_welch_agrees_with_scipy():
    a, b = np.array([1.0, 2.5, 3.1, 2.2]), np.array([4.0, 3.7, 5.9])
    low, high, p = welch(a.mean(), a.std(ddof=1), len(a), b.mean(), b.std(ddof=1), len(b))
    reference = ttest_ind(b, a, equal_var=False)
    interval = reference.confidence_interval(0.95)
    assert p == pytest.approx(reference.pvalue)
    assert (low, high) == pytest.approx((interval.low, interval.high))


def test_a_large_difference_is_called_by_the_direction_of_the_metric():
    a = {
        ("x", "fd"): [50.0, 52.0, 51.0],
        ("x", "iw_bound"): [-9.0, -9.1, -9.05],
        ("x", "log_partition"): [1.0, 1.1, 1.2],
    }
    b = {
        ("x", "fd"): [12.0, 13.0, 12.5],
        ("x", "iw_bound"): [-12.0, -12.1, -12.05],
        ("x", "log_partition"): [9.0, 9.1, 9.2],
    }
    assert verdicts(a, b) == {"fd": "better", "iw_bound": "worse", "log_partition": "changed"}
    assert verdicts(b, a) == {"fd": "worse", "iw_bound": "better", "log_partition": "changed"}


def test_noise_over_seeds_is_no_change():
    assert verdicts({("x", "fd"): [10.0, 14.0, 12.0]}, {("x", "fd"): [11.0, 15.0, 12.5]}) == {"fd": "no change seen"}


def test_equal_values_one_seed_and_missing_sides_are_said():
    assert verdicts({("x", "fd"): [1.0, 2.0]}, {("x", "fd"): [1.0, 2.0]}) == {"fd": "equal"}
    assert verdicts({("x", "fd"): [1.0]}, {("x", "fd"): [9.0]}) == {"fd": "too few seeds to tell"}
    assert verdicts({("x", "fd"): [1.0, 2.0]}, {("x", "kd"): [1.0, 2.0]}) == {"fd": "only before", "kd": "only after"}


def test_two_protocols_are_not_compared():
    rows = compare(frame({("x", "fd"): [50.0, 51.0]}, "fd@a"), frame({("x", "fd"): [1.0, 2.0]}, "fd@b"))
    assert rows[0].verdict == "not comparable: protocol fd@a against fd@b"
    assert rows[0].difference is None


def test_false_alarms_stay_below_their_level():
    """With nothing changed, 'worse' stands in at most 5 % of whole diffs, and 'maybe' in about 5 % of metrics."""
    stream, alarms, maybe, metrics, diffs = np.random.default_rng(0), 0, 0, 12, 400
    for _ in range(diffs):
        sides = [{(f"v{i}", "fd"): list(stream.normal(20, 2, 4)) for i in range(metrics)} for _ in range(2)]
        rows = compare(frame(sides[0]), frame(sides[1]))
        alarms += any(row.verdict in ("better", "worse") for row in rows)
        maybe += sum(row.verdict.startswith("maybe") for row in rows)
    # Binomial standard errors: 1.1 % of diffs, 0.3 % of metrics; four of them on top.
    assert alarms / diffs <= 0.05 + 4 * 0.011
    assert 0.02 < (maybe + alarms) / (diffs * metrics) <= 0.05 + 4 * 0.0035


def test_a_real_change_is_found():
    """A shift of five standard deviations with three seeds is called in most of simulated diffs of three metrics."""
    stream, found = np.random.default_rng(1), 0
    for _ in range(200):
        a = {("x", name): list(stream.normal(20, 1, 3)) for name in ("fd", "kd", "elbo")}
        b = a | {("x", "fd"): list(stream.normal(28, 1, 3))}
        found += verdicts(a, b)["fd"] == "worse"
    assert found / 200 > 0.8


def test_output_has_both_means_the_interval_and_the_verdict():
    rows = compare(frame({("x", "fd"): [50.0, 52.0, 51.0]}), frame({("x", "fd"): [12.0, 13.0, 12.5]}))
    text = as_text(rows, ("HEAD", "working tree"), "pipe")
    assert "51.00 ± 1.00 (n = 3)" in text
    assert "12.50 ± 0.50 (n = 3)" in text
    assert "-38.50" in text
    assert "better" in text
    content = json.loads(as_json(rows, ("HEAD", "working tree")))
    assert content["metrics"][0]["low"] < -38.5 < content["metrics"][0]["high"]


def test_agreement_counts_values_and_names_what_differs_beyond_noise():
    recorded = frame({("x", "fd"): [50.0, 52.0, 51.0], ("x", "kd"): [1.0, 1.1, 1.2]})
    assert "6 of 6 values agree" in agreement(recorded, recorded)
    fresh = frame({("x", "fd"): [12.0, 13.0, 12.5], ("x", "kd"): [1.0, 1.1, 1.2]})
    text = agreement(recorded, fresh)
    assert "3 of 6 values agree" in text
    assert "x fd" in text


def test_a_version_is_a_folder_a_revision_or_a_clear_error(tmp_path, monkeypatch):
    folder = tmp_path / "mine" / "results" / "digits"
    folder.mkdir(parents=True)
    frame({("x", "fd"): [1.0, 2.0]}).to_csv(folder / "metrics.csv", index=False)
    assert len(load_version(str(tmp_path / "mine"), "digits")) == 2
    assert len(load_version(str(folder), "digits")) == 2
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JebmError, match="no folder, no git revision and no DVC experiment"):
        load_version("nowhere", "digits")
    (folder / "metrics.csv").write_text("variant,seed,metric,value,n,protocol\nx,1,fd,inf,5,p\n")
    with pytest.raises(JebmError, match="fd of x at seed 1 is not a finite number"):
        load_version(str(folder), "digits")


def test_floors_of_several_datasets_are_told_apart():
    rows = [("data", None, "fd", value, 500, f"p@{value}") for value in (1.0, 2.0)]
    frame = pd.DataFrame(rows, columns=["variant", "seed", "metric", "value", "n", "protocol"]).astype(
        {"seed": "Int64"}
    )
    assert "2 of 2 values agree" in agreement(frame, frame.copy())
