"""Another parameter file: named on the command line, or by the environment variable that jobs inherit."""

import re

import pytest
from toy import TEXT


@pytest.fixture
def space(workspace):
    """The project with another file beside its own parameters."""
    (workspace.folder / "mine.yaml").write_text(TEXT.replace("toy", "mine"), encoding="utf-8")
    return workspace


def test_jebm_and_snakemake_take_the_file_that_they_are_given(space):
    assert space.run("jebm", "--params", "mine.yaml", "list").stdout.startswith("mine: seeds 0, 1")
    planned = space.run("snakemake", "-n", "--configfile", "mine.yaml").stdout
    assert "results/mine/tables/main.md" in planned
    assert "results/digits" not in planned


def test_jobs_read_the_file_that_snakemake_was_given(space):
    listed = space.run("jebm", "--params", "mine.yaml", "list").stdout
    target = re.search(r"data/\S+", listed)[0] + "/manifest.json"
    space.run("snakemake", target, "--cores", "1", "--configfile", "mine.yaml")
    assert (space.folder / target).exists()
    again = space.run("snakemake", target, "-n", "--configfile", "mine.yaml")
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--configfile", "mine.yaml", "params.yaml"], "--configfile: takes one parameter file here"),
        (
            ["--configfile", "mine.yaml", "--config", "core_studies=[]"],
            "--config: parameters come from mine.yaml alone",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(space, arguments, message):
    done = space.run("snakemake", "-n", *arguments, check=False)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_file_is_named(space):
    done = space.run("jebm", "--params", "none.yaml", "list", check=False)
    assert done.returncode == 2
    assert "none.yaml: no such file; run from the repository's top folder, or name another" in done.stderr
