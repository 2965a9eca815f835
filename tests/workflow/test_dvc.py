"""DVC around the pipeline: repro, metrics, params, plots and experiments answer, and run only what a change touches."""

import json
import shutil

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tracked(new_tiny, tmp_path_factory):
    """A tiny study under git and DVC, reproduced once by ``dvc repro`` and committed."""
    space = new_tiny(tmp_path_factory.mktemp("dvc"))
    for command in (
        ["git", "init", "--quiet"],
        ["git", "config", "user.email", "test@example.com"],
        ["git", "config", "user.name", "test"],
        ["dvc", "init", "--quiet"],
        ["dvc", "repro"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", "first"],
    ):
        space.run(*command)
    return space


REPORT = {"collect_metrics", "collect_plots", "render_table", "render_figure"}


def worked_and_taken(space) -> tuple[set[str], set[str]]:
    """The rules some of whose latest jobs worked, and those some of whose latest jobs took a kept result."""
    worked, taken = set(), set()
    for log in space.folder.glob("logs/*/*.log"):
        (taken if "made before with this key" in log.read_text() else worked).add(log.parent.name)
    return worked, taken


def test_an_experiment_after_a_plain_run_keeps_what_dvc_does_not_know(new_tiny, tmp_path):
    """``dvc exp run`` removes outputs that dvc.lock does not list; a run by Snakemake alone leaves no dvc.lock."""
    space = new_tiny(tmp_path)
    for command in (
        ["git", "init", "--quiet"],
        ["git", "config", "user.email", "test@example.com"],
        ["git", "config", "user.name", "test"],
        ["dvc", "init", "--quiet"],
        ["snakemake", "--cores", "2"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", "first"],
    ):
        space.run(*command)
    shutil.rmtree(space.folder / "logs")
    key = "digits.variants.short-run.draw_samples.sampler.steps"
    run = space.run("dvc", "exp", "run", "--set-param", f"{key}=6")
    worked, taken = worked_and_taken(space)
    assert worked == {"draw_samples", "evaluate_samples", *REPORT}, run.stdout + run.stderr
    assert {"prepare_dataset", "train_backbone", "train_prior", "train_features", "evaluate_density"} <= taken


def test_status_is_clean_after_repro(tracked):
    assert "up to date" in tracked.run("dvc", "status").stdout


def test_heavy_files_are_in_dvc_and_small_ones_in_git(tracked):
    files = tracked.run("git", "ls-files").stdout.split()
    assert "results/digits/metrics.csv" in files
    assert "dvc.lock" in files
    assert not [name for name in files if name.startswith(("data/", "runs/"))]


def test_metrics_show(tracked):
    shown = json.loads(tracked.run("dvc", "metrics", "show", "--json").stdout)
    assert set(shown[""]["data"]["results/digits/metrics.json"]["data"]) == {"fd_short_run"}


def test_a_study_that_was_not_run_with_the_present_parameters_is_named(tracked):
    assert tracked.run("jebm", "status", "--outdated").stdout == ""
    before = tracked.read("params.yaml")
    (tracked.folder / "params.yaml").write_text(before.replace("seeds:\n  - 1", "seeds:\n  - 2"))
    assert "with these parameters and this code: digits" in tracked.run("jebm", "status", "--outdated").stdout
    (tracked.folder / "params.yaml").write_text(before)


def test_an_experiment_runs_only_what_it_touches_and_its_diffs_answer(tracked):
    key = "digits.variants.short-run.draw_samples.sampler.steps"
    shutil.rmtree(tracked.folder / "logs")
    tracked.run("dvc", "exp", "run", "--name", "more-steps", "--set-param", f"{key}=6")
    worked, _ = worked_and_taken(tracked)
    assert worked == {"draw_samples", "evaluate_samples", *REPORT}
    params = json.loads(tracked.run("dvc", "params", "diff", "--json").stdout)
    assert (params["params.yaml"][key]["old"], params["params.yaml"][key]["new"]) == (4, 6)
    metrics = json.loads(tracked.run("dvc", "metrics", "diff", "--json").stdout)
    assert set(metrics["results/digits/metrics.json"]) == {"fd_short_run"}
    assert "more-steps" in tracked.run("dvc", "exp", "show", "--csv").stdout
    plots = json.loads(tracked.run("dvc", "plots", "diff", "--json").stdout)
    assert {"results/digits/plots/langevin-steps.csv", "results/digits/plots/training.csv"} <= set(plots["data"])
    diff = tracked.run("jebm", "diff", "HEAD", "more-steps", "--metric", "fd", check=False)
    assert diff.returncode in (0, 1), diff.stderr
    assert "too few seeds to tell" in diff.stdout  # the tiny study has one seed
