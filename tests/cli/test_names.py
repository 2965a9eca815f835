"""Names on the command line: groups of studies, and the nearest name of a mistyped one."""

from pathlib import Path

import pytest
import toy
import yaml
from typer.testing import CliRunner

from jebm.cli.main import app


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = toy.params({"core_studies": ["toy"]})
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return lambda *words: CliRunner().invoke(app, words)


@pytest.mark.parametrize("command", ["plan", "status", "list"])
def test_core_stands_for_its_studies(call, command):
    one, core = call(command, "toy"), call(command, "core")
    assert (core.exit_code, core.output) == (0, one.output)


def test_why_takes_core(call):
    assert call("why", "core").output.splitlines()[1:] == call("why", "toy").output.splitlines()[1:]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["why", "toi"], "Did you mean 'toy'?"),
        (["why", "results/toy/tables/mian.md"], "Did you mean 'results/toy/tables/main.md'?"),
        (["plan", "toi"], "did you mean 'toy'?"),
        (["diff", "--study", "toi"], "there is no study 'toi'; did you mean 'toy'?"),
        (["diff", "--study", "toy", "--metric", "fdd"], "there is no metric 'fdd'; did you mean 'fd'?"),
    ],
)
def test_a_mistyped_name_is_met_with_the_nearest(call, words, meant):
    done = call(*words)
    assert done.exit_code != 0
    assert meant in str(done.exception)
