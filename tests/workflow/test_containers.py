"""The container recipes, which are not built here: they are linted, and say the same."""

import re
import subprocess
import sys
from pathlib import Path

CONTAINERS = Path(__file__).parents[2] / "containers"


def test_the_dockerfile_is_linted():
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, CONTAINERS / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_both_recipes_install_the_same():
    docker = (CONTAINERS / "Dockerfile").read_text(encoding="utf-8")
    apptainer = (CONTAINERS / "jebm.def").read_text(encoding="utf-8")
    sections = re.findall(r"^%(\w+)$", apptainer, re.MULTILINE)
    assert sections == ["files", "post", "environment"]
    assert re.search(r"^FROM (.*)$", docker, re.MULTILINE)[1] == re.search(r"^From: (.*)$", apptainer, re.MULTILINE)[1]
    commands = [
        part.strip() for part in apptainer[apptainer.index("%post") : apptainer.index("%environment")].split("\n")
    ]
    flat = " ".join(docker.replace("\\\n", " ").split())
    for command in commands[1:]:
        assert command in flat
