"""The headline numbers of the recorded studies read well on a terminal of 100 columns."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import jebm
from jebm.config.read import read_params
from jebm.pipeline.study import make_plan
from jebm.report.collect import headline
from jebm.report.frame import read_metrics

ROOT = Path(jebm.__file__).parents[1]
RECORDED = sorted(ROOT.glob("results/*/metrics.json"))
WIDTH = 100


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.parent.name)
def test_recorded_numbers_are_those_of_the_recorded_metrics(path):
    plan = make_plan(read_params(ROOT / "params.yaml"))[path.parent.name]
    metrics = path.with_suffix(".csv")
    assert json.loads(path.read_text()) == headline(plan, read_metrics(metrics.read_text(), str(metrics)))


def test_names_of_the_core_study_are_its_own():
    """``dvc exp show`` writes the path of the file before a name that several files have."""
    names = {path.parent.name: set(json.loads(path.read_text())) for path in RECORDED}
    assert not names.pop("digits") & set.union(*names.values())


def test_dvc_shows_all_of_them_in_a_table_no_wider_than_a_terminal(tmp_path):
    def run(*command: str) -> str:
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    for path in [*RECORDED, ROOT / "dvc.yaml", ROOT / "params.yaml", *ROOT.glob("params/*.yaml")]:
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for command in ("git init --quiet", "dvc init --quiet", "git config user.email a@b.c", "git config user.name a"):
        run(*command.split())
    shown = run("dvc", "metrics", "show").splitlines()
    assert len(shown) == 1 + len(RECORDED)
    assert max(map(len, shown)) <= WIDTH
    run("git", "add", "--all")
    run("git", "commit", "--quiet", "--message", "first")
    changed = tmp_path / "results/digits/metrics.json"
    changed.write_text(json.dumps({name: value + 1 for name, value in json.loads(changed.read_text()).items()}))
    diff = run("dvc", "metrics", "diff").splitlines()
    assert len(diff) == 1 + len(json.loads(changed.read_text()))
    assert max(map(len, diff)) <= WIDTH
