"""Every command line in README and docs is one: jebm's parse, Snakemake's parse and their targets exist, make's too."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from snakemake.cli import get_argument_parser

from jebm.cli.main import app
from jebm.config.read import read_params
from jebm.pipeline.study import make_plan

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOOLS = ("jebm", "snakemake", "make")
RULES = set(
    re.findall(r"^ *(?:rule|as) (\w+)", "".join(p.read_text() for p in ROOT.glob("workflow/rules/*.smk")), re.M)
)
MAKE_TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
USAGE_ERROR = typer.BadParameter.__mro__[1]
"""Of the click that typer uses, which may be a copy of its own."""
PLACEHOLDERS = {"STUDY": "digits", "TARGET": "digits", "RULE": "train_prior", "JOB": "digits/main", "NAME": "name"}


def commands() -> list[tuple[str, str]]:
    """(document, command line) of every one in code blocks and inline code."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        blocks = re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)
        shown = [block for language, block in blocks if language in ("", "bash", "sh")]
        lines = [line for block in shown for line in block.replace("\\\n", " ").splitlines()]
        inline = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        inline = [" ".join(line.split()) for line in inline]
        for line in [*lines, *inline]:
            for part in re.split(r"&&|;|\|", line.split(" #")[0].strip().removeprefix("$ ")):
                words = part.split()
                if words and words[0] in TOOLS and len(words) > 1:
                    found.append((document.name, part.strip()))
    return list(dict.fromkeys(found))


def words_of(line: str) -> list[str]:
    words = shlex.split(re.sub(r'"?\$\w+"?', "1", line.rstrip("} ")))
    return [PLACEHOLDERS.get(word, word.replace("_STUDY", "_digits")) for word in words]


def targets() -> set[str]:
    """What Snakemake can be asked for by name."""
    plans = make_plan(read_params(ROOT / "params.yaml"))
    return RULES | {"all", "core", "benchmark", "tables", "figures"} | set(plans) | {f"assets_{name}" for name in plans}


def test_the_documents_hold_commands_of_each_tool():
    assert {line.split()[0] for _, line in commands()} == set(TOOLS)
    assert len(commands()) > 40


@pytest.mark.parametrize(("document", "line"), commands(), ids=lambda value: str(value)[:60])
def test_command_line_is_one(document, line):
    tool, *words = words_of(line)
    if tool == "make":
        goals = [word for word in words if "=" not in word]
        assert set(goals) <= MAKE_TARGETS
    elif tool == "snakemake":
        asked = get_argument_parser().parse_args(words).targets
        own = {"pictures", *re.findall(r"results/(\w+)/", " ".join(asked))}  # a document's own example
        assert not [t for t in asked if "/" not in t and t not in targets() | own]
    else:
        parse(typer.main.get_command(app), words)


def parse(command, words: list[str]) -> None:
    """Read a command line as click does, with all checks of its types, and run nothing.

    Of a verb that is only mentioned, or whose arguments are left out with an ellipsis, the name is checked.
    """
    if "--help" in words or "-h" in words:
        return
    group = command.make_context("jebm", list(words))
    given = [*group._protected_args, *group.args]
    if given and given[0] != "…":
        name, verb, rest = command.resolve_command(group, given)
        if rest and "…" not in rest:
            verb.make_context(name, rest, parent=group)


@pytest.mark.parametrize(
    "line", ["jebm variants", "jebm list --no-such-option", "jebm run train_prior", "jebm adopt …"]
)
def test_a_line_that_is_none_is_noticed(line):
    with pytest.raises(USAGE_ERROR):
        parse(typer.main.get_command(app), line.split()[1:])


@pytest.mark.parametrize("command", ["dvc metrics show", "jebm show digits", "jebm show"])
def test_what_is_printed_fits_100_columns(command):
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=ROOT, env={**os.environ, "COLUMNS": "100"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) > 5
    assert max(map(len, lines)) <= 100
