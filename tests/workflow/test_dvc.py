"""DVC around the pipeline: repro, metrics, params, plots and experiments answer, and run only what a change touches."""

import json

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
    key = "digits.variants.joint-k20.draw_samples.sampler.steps"
    run = space.run("dvc", "exp", "run", "--set-param", f"{key}=6")
    samples = list(space.folder.glob("runs/samples-*"))
    assert len(samples) == 5, "the samples of the former parameters came back too, beside the new ones"
    output = run.stdout + run.stderr
    assert "finished results were brought back" in output
    assert "rule draw_samples" in output
    assert not any(f"rule {rule}" in output for rule in ("prepare_dataset", "train_backbone", "train_prior"))


def test_status_is_clean_after_repro(tracked):
    assert "up to date" in tracked.run("dvc", "status").stdout


def test_heavy_files_are_in_dvc_and_small_ones_in_git(tracked):
    files = tracked.run("git", "ls-files").stdout.split()
    assert "results/digits/metrics.csv" in files
    assert "dvc.lock" in files
    assert not [name for name in files if name.startswith(("data/", "runs/"))]


def test_metrics_show(tracked):
    shown = json.loads(tracked.run("dvc", "metrics", "show", "--json").stdout)
    assert set(shown[""]["data"]["results/digits/metrics.json"]["data"]) == {"fd_gaussian", "fd_joint", "iw_joint"}


def test_an_experiment_runs_only_what_it_touches_and_its_diffs_answer(tracked):
    key = "digits.variants.joint-k20.draw_samples.sampler.steps"
    run = tracked.run("dvc", "exp", "run", "--name", "more-steps", "--set-param", f"{key}=6")
    output = run.stdout + run.stderr
    assert "rule draw_samples" in output
    assert not any(f"rule {rule}" in output for rule in ("train_backbone", "train_prior", "train_features"))
    params = json.loads(tracked.run("dvc", "params", "diff", "--json").stdout)
    assert (params["params.yaml"][key]["old"], params["params.yaml"][key]["new"]) == (4, 6)
    metrics = json.loads(tracked.run("dvc", "metrics", "diff", "--json").stdout)
    assert set(metrics["results/digits/metrics.json"]) == {"fd_joint"}
    assert "more-steps" in tracked.run("dvc", "exp", "show", "--csv").stdout
    plots = json.loads(tracked.run("dvc", "plots", "diff", "--json").stdout)
    assert "results/digits/plots/langevin-steps.csv" in json.dumps(plots)
    diff = tracked.run("jebm", "diff", "HEAD", "more-steps", "--metric", "fd", check=False)
    assert diff.returncode in (0, 1), diff.stderr
    assert "too few seeds to tell" in diff.stdout  # the tiny study has one seed
