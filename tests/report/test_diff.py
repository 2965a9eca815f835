"""Verdicts of ``jebm diff`` on simulated metrics with a known answer."""

import json

import numpy as np
import pandas as pd
import pytest
from measured import at_seeds
from scipy.stats import t as student_t

from jebm.errors import JebmError
from jebm.report.diff import agreement, as_json, as_text, compare, load_version, paired, renamed_steps, welch
from jebm.report.frame import tidy


def frame(values: dict[tuple[str, str], list[float]], protocol: str = "p@1", **about) -> pd.DataFrame:
    """(variant, metric) → a value per seed."""
    groups = (
        at_seeds(variant, metric, numbers, 100, protocol, **about) for (variant, metric), numbers in values.items()
    )
    return tidy([row for group in groups for row in group])


def verdicts(a, b) -> dict[str, str]:
    return {row.metric: row.verdict for row in compare(frame(a), frame(b))}


def test_interval_is_that_of_the_formula_of_welch():
    a, b = pd.Series([1.0, 2.5, 3.1, 2.2]), pd.Series([4.0, 3.7, 5.9])
    parts = a.var(ddof=1) / 4, b.var(ddof=1) / 3
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
    difference, reach = b.mean() - a.mean(), student_t.ppf(0.975, freedom) * sum(parts) ** 0.5
    low, high, p = welch(a, b)
    assert (low, high) == pytest.approx((difference - reach, difference + reach))
    assert p == pytest.approx(2 * student_t.sf(difference / sum(parts) ** 0.5, freedom))


def test_values_without_noise_over_seeds_have_an_interval_of_no_width():
    assert welch(pd.Series([1.0, 1.0]), pd.Series([3.0, 3.0])) == (2.0, 2.0, 0.0)


def test_interval_of_pairs_is_that_of_the_differences():
    a, b = (frame({("x", "fd"): values}) for values in ([1.0, 5.0, 9.0], [2.0, 6.2, 9.9]))
    differences = np.array([1.0, 1.2, 0.9])
    reach = student_t.ppf(0.975, 2) * differences.std(ddof=1) / 3**0.5
    low, high, p = paired(a, b.iloc[::-1])
    assert (low, high) == pytest.approx((differences.mean() - reach, differences.mean() + reach))
    assert p == pytest.approx(2 * student_t.sf(differences.mean() / (differences.std(ddof=1) / 3**0.5), 2))


def test_pairs_are_used_where_the_seeds_are_the_same():
    """The differences are small beside the noise over seeds, and alike at all seeds."""
    before, after = {("x", "fd"): [1.0, 5.0, 9.0]}, {("x", "fd"): [0.5, 4.45, 8.52]}
    (row,) = rows = compare(frame(before), frame(after))
    assert (row.paired, row.verdict) == (True, "better")
    assert as_text(rows, ("a", "b")).endswith("1 better. Intervals: paired by seed.")
    other = frame(after).assign(seed=lambda f: f.seed + 10)
    (row,) = rows = compare(frame(before), other)
    assert (row.paired, row.verdict) == (False, "no change seen")
    assert as_text(rows, ("a", "b")).endswith("Intervals: Welch's, since the seeds differ.")


@pytest.mark.parametrize(("common", "least", "most"), [(0.9, 0.9, 0.99), (0.0, 0.2, 0.4)])
def test_the_power_is_the_one_that_the_documents_state(common, least, most):
    """Differences of twice the noise over seeds, three seeds, of whose variance a part is common to both sides."""
    rng, trials, found = np.random.default_rng(4), 400, 0
    shared, own = common**0.5, (1 - common) ** 0.5
    for _ in range(trials):
        seeds = rng.normal(size=3)
        a, b = (shared * seeds + own * rng.normal(size=3) for _ in range(2))
        found += paired(frame({("x", "fd"): list(a)}), frame({("x", "fd"): list(b + 2)}))[2] < 0.05
    assert least < found / trials < most


def test_a_name_that_denies_the_steps_is_pointed_out():
    a = frame({("joint-k20", "langevin_steps"): [20, 20], ("train-k10", "langevin_steps"): [20, 20]})
    b = frame({("joint-k20", "langevin_steps"): [30, 30], ("train-k10", "langevin_steps"): [30, 30]})
    assert renamed_steps(a, b) == ["note: joint-k20 has 30 steps now, which its name denies; call it k30"]
    assert renamed_steps(a, a) == []


def test_a_large_difference_is_called_by_the_direction_of_the_metric():
    a = {
        ("x", "fd"): [50.0, 52.0, 51.0],
        ("x", "iw_bound"): [-9.0, -9.1, -9.05],
        ("x", "log_z"): [1.0, 1.1, 1.2],
    }
    b = {
        ("x", "fd"): [12.0, 13.0, 12.5],
        ("x", "iw_bound"): [-12.0, -12.1, -12.05],
        ("x", "log_z"): [9.0, 9.1, 9.2],
    }
    assert verdicts(a, b) == {"fd": "better", "iw_bound": "worse", "log_z": "changed"}
    assert verdicts(b, a) == {"fd": "worse", "iw_bound": "better", "log_z": "changed"}


def test_noise_over_seeds_is_no_change():
    assert verdicts({("x", "fd"): [10.0, 14.0, 12.0]}, {("x", "fd"): [11.0, 13.0, 12.5]}) == {"fd": "no change seen"}


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
    rng, alarms, maybe, metrics, diffs = np.random.default_rng(0), 0, 0, 12, 150
    for _ in range(diffs):
        sides = [{(f"v{i}", "fd"): list(rng.normal(20, 2, 4)) for i in range(metrics)} for _ in range(2)]
        rows = compare(frame(sides[0]), frame(sides[1]))
        alarms += any(row.verdict in ("better", "worse") for row in rows)
        maybe += sum(row.verdict.startswith("maybe") for row in rows)
    # Binomial standard errors: 1.8 % of diffs, 0.5 % of metrics; four of them on top.
    assert alarms / diffs <= 0.05 + 4 * 0.018
    assert 0.02 < (maybe + alarms) / (diffs * metrics) <= 0.05 + 4 * 0.0055


def test_a_real_change_is_found():
    """A shift of five standard deviations with three seeds is called in most of simulated diffs of three metrics."""
    rng, found = np.random.default_rng(1), 0
    for _ in range(80):
        a = {("x", name): list(rng.normal(20, 1, 3)) for name in ("fd", "kd", "elbo")}
        b = a | {("x", "fd"): list(rng.normal(28, 1, 3))}
        found += verdicts(a, b)["fd"] == "worse"
    assert found / 80 > 0.8


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
    frame({("x", "fd"): [1.0, float("inf")]}).to_csv(folder / "metrics.csv", index=False)
    with pytest.raises(JebmError, match="fd of x at seed 1 is not a finite number"):
        load_version(str(folder), "digits")


def test_floors_of_several_datasets_are_told_apart():
    rows = [row for value in (1.0, 2.0) for row in at_seeds("real-data", "fd", (value,), 500, f"p@{value}")]
    assert "2 of 2 values agree" in agreement(tidy(rows), tidy(rows))


def test_sets_and_scores_are_compared_each_and_diagnostics_are_not():
    a = pd.concat([frame({("x", "auroc"): [0.5, 0.6]}, set=name, score="f") for name in ("overlay", "uniform")])
    a = pd.concat([a, frame({("x", "acceptance"): [0.1, 0.2], ("x", "log_z_se"): [0.1, 0.2]})])
    rows = compare(a, a.assign(value=a.value + 0.1))
    assert [(row.metric, row.of) for row in rows] == [("auroc", "overlay f"), ("auroc", "uniform f")]
    assert "AUROC overlay f" in as_text(rows, ("a", "b"))


def test_results_in_the_format_of_another_version_are_refused_in_one_line(tmp_path):
    (tmp_path / "metrics.csv").write_text("study,variant,seed,metric,value,n,protocol\ntoy,x,1,auroc:a:f,0.5,5,p\n")
    with pytest.raises(JebmError, match=r"metrics.csv: was written by another version of jebm.*lacks the columns set"):
        load_version(str(tmp_path), "toy")
