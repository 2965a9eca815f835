"""Differences between variants on the same images: against areas known by hand, and paired."""

import pytest
import torch
from toy import params

from jebm.config.read import parse_params
from jebm.errors import JebmError, ParamsError
from jebm.io.tensors import write_tensors
from jebm.pipeline.jobs import report_jobs
from jebm.pipeline.study import make_plan
from jebm.report.collect import finished
from jebm.report.differences import differences

CHANGES = {
    "toy/evaluations": {"anomaly": {"name": "anomaly"}},
    "toy/differences": {"evaluation": "anomaly", "scores": ["elbo+f", "f"], "less": {"joint": "gaussian"}},
}
NORMAL, OUTLIERS = 60, 20
SHARE = OUTLIERS / (NORMAL + OUTLIERS)


def plan(changes=None):
    return make_plan(parse_params(params(CHANGES | (changes or {}))))["toy"]


def store(plan, variant, seed, **scores):
    """Store (normal, outliers) of each score; ``elbo_f`` stands for elbo+f."""
    arrays = {}
    for name, pair in scores.items():
        for images, values in zip(("test", "patches"), pair, strict=True):
            arrays[f"score/{images}/{name.replace('_', '+')}"] = torch.as_tensor(values, dtype=torch.float64)
    write_tensors(plan.variants[variant].evaluations["anomaly"].run_folder(seed) / "arrays.safetensors", arrays)


LOW, HIGH, FLAT = torch.zeros(NORMAL), torch.ones(OUTLIERS), torch.zeros(OUTLIERS)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The score elbo+f of joint separates perfectly, that of gaussian not at all; f is the same noise for both."""
    monkeypatch.chdir(tmp_path)
    known = plan()
    for seed in known.seeds:
        noise = torch.randn(NORMAL, generator=torch.Generator().manual_seed(seed)), torch.randn(OUTLIERS)
        store(known, "joint", seed, elbo_f=(LOW, HIGH), f=noise)
        store(known, "gaussian", seed, elbo_f=(LOW, FLAT), f=noise)
    return known


def values(study):
    return [(variant, record.seed, row) for variant, record in differences(study) for row in record.values]


def test_difference_is_that_of_the_areas(study):
    """Perfect scores have the areas 1 and 1; constant ones 1/2, and the share of outliers."""
    found = {(seed, row["metric"]): row for _, seed, row in values(study) if row["score"] == "elbo+f"}
    assert set(found) == {(seed, f"{measure}_difference") for seed in (0, 1) for measure in ("auroc", "auprc")}
    for (_, metric), row in found.items():
        expected = 0.5 if metric == "auroc_difference" else 1 - SHARE
        assert row["value"] == pytest.approx(expected)
        assert (row["low"], row["high"]) == pytest.approx((expected, expected))  # on every resample
        assert (row["set"], row["n"]) == ("patches", NORMAL + OUTLIERS)


def test_equal_scores_differ_by_nothing_on_every_resample(study):
    """So both variants are measured on the same resamples: two independent ones would differ."""
    rows = [row for *_, row in values(study) if row["score"] == "f"]
    assert len(rows) == 4
    assert all(row["value"] == row["low"] == row["high"] == 0 for row in rows)


def test_resamples_are_those_of_the_data_and_the_seed(study):
    assert values(study) == values(study)


def test_preview_has_pairs_whose_scores_are_all_there(study):
    (study.variants["gaussian"].evaluations["anomaly"].run_folder(1) / "arrays.safetensors").unlink()
    frame, *_ = finished(study)
    assert set(frame[frame.metric == "auroc_difference"].seed) == {0}


def test_score_that_was_not_stored_is_named(study):
    asked = plan({"toy/differences": CHANGES["toy/differences"] | {"scores": ["elbo"]}})
    with pytest.raises(JebmError, match=r"differences.scores: 'elbo' is not among the scores in .*arrays"):
        list(differences(asked))


def test_collecting_depends_on_the_stored_scores_of_both_variants():
    known = plan()
    job = next(job for job in report_jobs(known) if job.rule == "collect_metrics")
    folders = [
        known.variants[name].evaluations["anomaly"].run_folder(seed)
        for name in ("joint", "gaussian")
        for seed in (0, 1)
    ]
    assert job.inputs["scores"] == tuple(f"{folder}/arrays.safetensors" for folder in folders)
    assert "scores" not in next(job for job in report_jobs(make_plan(parse_params(params()))["toy"])).inputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"less": {"joint": "gausian"}}, "'gausian' is no variant; did you mean 'gaussian'"),
        ({"evaluation": "detection"}, "'joint' has no evaluation 'detection'"),
        ({"less": {"joint": "other-data"}}, "joint and other-data have other data or another evaluation"),
    ],
)
def test_pairs_that_cannot_be_compared_are_refused(change, message):
    changed = params(CHANGES)
    changed["toy"]["variants"]["other-data"] = {"dataset": {"test_count": 400}}
    changed["toy"]["differences"] = CHANGES["toy/differences"] | change
    with pytest.raises(ParamsError, match=f"toy.differences.less: {message}"):
        parse_params(changed)


def bounds(changes=None):
    less = {"evaluation": "evaluate_density", "less": {"joint": "gaussian"}}
    return parse_params(params({"toy/differences": less} | (changes or {})))


def store_bounds(plan, variant, seed, **arrays):
    write_tensors(plan.variants[variant].density_metrics.run_folder(seed) / "arrays.safetensors", arrays)


def test_difference_of_bounds_is_paired_over_images(tmp_path, monkeypatch):
    """Images differ by much, the variants by 0.5 ± 0.1 at each image: the interval is that of the differences, and
    contains the error of log Z, which no image shows."""
    monkeypatch.chdir(tmp_path)
    known = make_plan(bounds())["toy"]
    images = 100 * torch.randn(400, dtype=torch.float64)
    apart = 0.5 + 0.1 * torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(200)
    for seed, log_z_error in zip(known.seeds, (0.0, 0.3), strict=True):
        exact, own = torch.tensor(0.0, dtype=torch.float64), torch.tensor(log_z_error, dtype=torch.float64)
        store_bounds(known, "gaussian", seed, iw_bound=images, log_z_se=exact)
        store_bounds(known, "joint", seed, iw_bound=images + apart, log_z_se=own)
    for (variant, _, row), log_z_error in zip(values(known), (0.0, 0.3), strict=True):
        assert (variant, row["metric"], row["n"]) == ("joint", "iw_bound_difference", 400)
        assert row["value"] == pytest.approx(0.5)
        half = 1.96 * (0.01 / 399 + log_z_error**2) ** 0.5
        assert (row["low"], row["high"]) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))


def test_no_difference_without_a_bound(tmp_path, monkeypatch):
    """The estimates of log Z disagreed at one of the two variants, so it has no bound."""
    monkeypatch.chdir(tmp_path)
    known = make_plan(bounds())["toy"]
    for seed in known.seeds:
        store_bounds(known, "gaussian", seed, iw_bound=torch.zeros(3), log_z_se=torch.tensor(0.0))
        store_bounds(known, "joint", seed, other=torch.zeros(3))
    assert values(known) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"toy/differences/scores": ["f"]}, "differences.scores: bounds have none"),
        (
            {"toy/variants/gaussian/evaluate_density": {"importance_samples": 3}},
            "have other data or another evaluation",
        ),
        ({"toy/variants/gaussian/prior": {"name": "aggregate-posterior"}}, "has no density, so it has no bound"),
    ],
)
def test_bounds_that_cannot_be_compared(change, message):
    with pytest.raises(ParamsError, match=message):
        bounds(change)
