"""The monitor snakesee reads the progress of our jobs. Skipped where it is not installed: pip install -e '.[watch]'."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

pytest.importorskip("snakesee")

from snakesee.plugins.loader import validate_plugin
from snakesee.plugins.registry import parse_tool_progress

from jebm.runtime.progress import Progress

ROOT = Path(__file__).parents[2]


@pytest.fixture
def plugin():
    """The plugin that the entry point of this project names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return EntryPoint("jebm", project["entry-points"]["snakesee.plugins"]["jebm"], "snakesee.plugins").load()()


def test_it_reads_what_a_job_logs(plugin, tmp_path, capsys):
    progress = Progress("digits train_prior", every=0)
    for step in (1, 2, 3):
        progress("step", step, 12)
    path = tmp_path / "job.log"
    path.write_text("loading\n" + capsys.readouterr().err, encoding="utf-8")
    read = parse_tool_progress("train_prior", path, [plugin])
    assert (read.items_processed, read.items_total, read.unit, read.percent_complete) == (3, 12, "steps", 25.0)
    assert read.estimated_remaining_seconds is not None
    assert parse_tool_progress("another_rule", path, [plugin]) is None


def test_a_job_that_has_said_nothing_has_no_progress(plugin, tmp_path):
    path = tmp_path / "job.log"
    path.write_text("loading\n", encoding="utf-8")
    assert parse_tool_progress("train_prior", path, [plugin]) is None


def test_snakesee_accepts_it(plugin):
    assert validate_plugin(plugin) is not None
