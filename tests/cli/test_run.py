"""``jebm run``: a job by its name or by study, variant and seed; a mistake is one line with the nearest name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy
import yaml
from typer.testing import CliRunner

from jebm.cli import job as module
from jebm.cli.main import app, main
from jebm.config.read import parse_params
from jebm.pipeline.study import make_plan

ROOT = Path(__file__).parents[2]
TERMS = {"name": "terms", "count": 10}
CONTENT = toy.params({"toy/variants/measured": {"evaluations": {"a": TERMS, "b": TERMS | {"count": 20}}}})
TWO = toy.params({"toy/compute": {"devices": 2}})
PLAN = make_plan(parse_params(CONTENT))["toy"]
JOINT = PLAN.variants["joint"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run(*words)`` is ``jebm run`` up to the work; the answer is the job that it would produce, and ``again``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    Path("params.yaml").write_text(yaml.safe_dump(CONTENT), encoding="utf-8")
    produced = []
    monkeypatch.setattr(
        module, "produce", lambda job, work, again=False, is_rank_zero=True: produced.append((job, again))
    )

    def call(*words):
        done = CliRunner().invoke(app, ["run", *words])
        assert done.exit_code == 0, (done.output, done.exception)
        return produced.pop()

    return call


@pytest.mark.parametrize(
    ("rule", "words", "name"),
    [
        ("train_prior", ["toy", "--variant", "joint", "--seed", "1"], JOINT.prior.job_name(1)),
        ("train_prior", [JOINT.prior.job_name(0)], JOINT.prior.job_name(0)),
        ("train_features", ["toy", "--variant", "gaussian"], JOINT.features.job_name(None)),
        ("train_features", [JOINT.features.job_name(None)], JOINT.features.job_name(None)),
        ("prepare_dataset", ["toy", "--variant", "joint", "--seed", "1"], JOINT.dataset.name),
        ("resample_layers", ["toy", "--variant", "joint", "--seed", "0"], JOINT.layers.job_name(0)),
        ("evaluate_samples", [JOINT.sample_metrics.job_name(1)], JOINT.sample_metrics.job_name(1)),
        ("collect_metrics", ["toy/metrics"], "toy/metrics"),
        ("collect_plots", ["toy/plots"], "toy/plots"),
        ("render_table", ["toy/main"], "toy/main"),
        ("render_figure", ["toy/samples"], "toy/samples"),
    ],
)
def test_a_job_is_found_by_its_name_and_by_study_variant_and_seed(run, rule, words, name):
    job, again = run(rule, *words)
    assert (job.rule, job.name, again) == (rule, name, False)
    assert run(rule, *words, "--again")[1] is True


def test_an_identity_is_enough_whatever_the_folder_is_called(run):
    """Another study may have given the folder its name when the job was planned."""
    name = f"other-words-{JOINT.prior.id}/seed1"
    assert run("train_prior", name)[0].name == JOINT.prior.job_name(1)


EVALUATIONS = PLAN.variants["measured"].evaluations


def test_one_of_several_evaluations_is_found_by_its_name(run):
    job, _ = run("run_evaluation", EVALUATIONS["b"].job_name(1))
    assert job.parameters["evaluation"]["count"] == 20


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train_piror", "toy"], ["there is no rule 'train_piror'", "did you mean 'train_prior'?"]),
        (["render_tabel", "toy/main"], ["there is no rule 'render_tabel'", "did you mean 'render_table'?"]),
        (["train_prior", "tooy"], ["train_prior has no job 'tooy'", "did you mean 'toy'?"]),
        (
            ["train_prior", "toy", "--variant", "jiont", "--seed", "1"],
            ["name one of the variants of 'toy' by --variant", "did you mean 'joint'?"],
        ),
        (["train_prior", "toy", "--seed", "1"], ["name one of the variants of 'toy' by --variant", "joint"]),
        (
            ["train_prior", "toy", "--variant", "joint", "--seed", "7"],
            ["name one of the seeds of 'toy' by --seed: 0, 1"],
        ),
        (["train_prior", "toy", "--variant", "joint"], ["name one of the seeds of 'toy' by --seed: 0, 1"]),
        (
            ["train_prior", "toy", "--variant", "gaussian", "--seed", "1"],
            ["'gaussian' has no train_prior", "jebm list"],
        ),
        (["train_joint", "toy", "--variant", "joint", "--seed", "1"], ["'joint' has no train_joint"]),
        (
            ["run_evaluation", "toy", "--variant", "measured", "--seed", "1"],
            ["'measured' has several run_evaluation stages, name one", EVALUATIONS["a"].name, EVALUATIONS["b"].name],
        ),
        (["train_prior", JOINT.prior.job_name(7)], ["no study has the job"]),
        (["train_prior", JOINT.prior.name], ["no study has the job"]),
        (["train_features", f"{JOINT.features.name}/seed1"], ["no study has the job"]),
        (["train_prior", "toy-layerwise-0123456789/seed1"], ["was the file edited while Snakemake was running?"]),
        (["train_backbone", JOINT.prior.job_name(1)], ["no study has the job", "of the rule train_backbone"]),
        (["render_table", "toy/mian"], ["render_table has no job 'toy/mian'", "did you mean 'toy/main'?"]),
        (["render_table", "tooy/main"], ["there is no study 'tooy'", "did you mean 'toy'?"]),
        (["render_table", "toy"], ["render_table has no job 'toy'", "toy/main"]),
        (["render_figure", "toy/main"], ["render_figure has no job 'toy/main'", "toy/samples"]),
        (["train_prior"], ["Missing argument"]),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_with_the_nearest_name_and_leaves_nothing(words, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(CONTENT), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["jebm", "run", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code != 0
    out, err = capsys.readouterr()
    assert out == ""
    assert all(part in err for part in expected), err
    if "Missing" not in err:  # what click says of words that are missing has a frame
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_a_job_of_two_devices_is_refused_in_one_process_of_three(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TWO), encoding="utf-8")
    name = make_plan(parse_params(TWO))["toy"].variants["joint"].backbone.job_name(1)
    ranks = {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}
    done = jebm(tmp_path, "run", "train_backbone", name, **ranks)
    assert done.returncode == 1
    assert done.stderr == "error: this job is one for 2 devices, but was started as 3 processes\n"


def jebm(folder, *words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "jebm", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
