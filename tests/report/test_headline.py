"""The headline numbers of the recorded studies read well on a terminal of 120 columns."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import jebm
from jebm.config.read import read_params
from jebm.pipeline.study import make_plan
from jebm.report.collect import headline
from jebm.report.frame import read_metrics
from jebm.report.plots import dvc_file

ROOT = Path(jebm.__file__).parents[1]
RECORDED = sorted(ROOT.glob("results/*/metrics.json"))
WIDTH = 120
WIDE = {**os.environ, "COLUMNS": str(WIDTH)}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.parent.name)
def test_recorded_numbers_are_those_of_the_recorded_metrics(path):
    plan = make_plan(read_params(ROOT / "params.yaml"))[path.parent.name]
    metrics = path.with_suffix(".csv")
    assert json.loads(path.read_text()) == headline(plan, read_metrics(metrics.read_text(), str(metrics)))


def test_names_of_the_core_study_are_its_own():
    """``dvc exp show`` writes the path of the file before a name that several files have."""
    names = {path.parent.name: set(json.loads(path.read_text())) for path in RECORDED}
    assert not names.pop("digits") & set.union(*names.values())


@pytest.fixture
def project(tmp_path):
    """What DVC reads of a fresh clone, with a study of one's own; returns what runs a command there."""

    def run(*command: str) -> list[str]:
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, env=WIDE)
        return done.stdout.splitlines()

    for pattern in ("results/*/metrics.json", "results/*/dvc.yaml", "dvc.yaml", "params.yaml", "params/*.yaml"):
        for path in ROOT.glob(pattern):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    own = tmp_path / "results/own"
    own.mkdir()
    (own / "metrics.json").write_text('{"fd": 1.0}')
    plan = make_plan(read_params(ROOT / "params.yaml"))["priors"]
    (own / "dvc.yaml").write_text(dvc_file(plan, None, trained=False))
    (tmp_path / "params/own.yaml").write_text("extends: digits\nseeds: [1]\n")
    for command in ("git init --quiet", "dvc init --quiet", "git config user.email a@b.c", "git config user.name a"):
        run(*command.split())
    run("git", "add", "--all")
    run("git", "commit", "--quiet", "--message", "first")
    return run


def test_dvc_shows_every_study_and_its_changes_in_the_width_of_a_terminal(project, tmp_path):
    shown = project("dvc", "metrics", "show")
    with_numbers = [path for path in RECORDED if json.loads(path.read_text())]
    assert len(shown) == 1 + len(with_numbers) + 1
    assert any(line.startswith("results/own/metrics.json") for line in shown)
    changed = tmp_path / "results/digits/metrics.json"
    changed.write_text(json.dumps({name: value + 1 for name, value in json.loads(changed.read_text()).items()}))
    (tmp_path / "params/own.yaml").write_text("extends: digits\nseeds: [2]\n")
    metrics, params = project("dvc", "metrics", "diff"), project("dvc", "params", "diff")
    assert len(metrics) == 1 + len(json.loads(changed.read_text()))
    assert [line.split()[:2] for line in params[1:]] == [["params/own.yaml", "seeds"]]
    experiments = project("dvc", "exp", "show", "--no-pager", "--only-changed")
    assert "seeds" in experiments[1]
    assert max(map(len, [*shown, *metrics, *params, *experiments])) <= WIDTH
