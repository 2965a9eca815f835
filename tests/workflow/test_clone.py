"""A fresh clone, pulled with DVC: nothing runs again, with every link type and any file times."""

import os
import random
import re

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pushed(new_tiny, tmp_path_factory):
    """A tiny study, committed, with its data and runs pushed to a remote in a folder."""
    space = new_tiny(tmp_path_factory.mktemp("origin"))
    remote = tmp_path_factory.mktemp("remote")
    for command in (
        ["git", "init", "--quiet", "--initial-branch", "main"],
        ["git", "config", "user.email", "test@example.com"],
        ["git", "config", "user.name", "test"],
        ["dvc", "init", "--quiet"],
        ["dvc", "remote", "add", "--default", "shelf", str(remote)],
        ["dvc", "repro", "--quiet"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", "results"],
        ["dvc", "push", "--quiet"],
    ):
        space.run(*command)
    return space


def clone_of(space, folder, link: str):
    """A clone with everything pulled, and file times in no order."""
    space.run("git", "clone", "--quiet", str(space.folder), str(folder))
    clone = type(space).__new__(type(space))
    clone.folder = folder
    clone.run("dvc", "config", "--local", "cache.type", link)
    clone.run("dvc", "pull", "--quiet")
    rng = random.Random(link)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".git" not in path.parts and ".dvc" not in path.parts:
            time = 1_700_000_000 + rng.randrange(10_000_000)
            os.utime(path, (time, time))
    return clone


@pytest.mark.parametrize("link", ["copy", "hardlink", "symlink"])
def test_a_pulled_clone_has_nothing_to_do(pushed, tmp_path, link):
    clone = clone_of(pushed, tmp_path / "clone", link)
    dry = clone.run("snakemake", "-n", "--cores", "1")
    assert "Nothing to be done" in dry.stdout + dry.stderr, "without a word to jebm"
    verified = clone.run("jebm", "verify").stdout
    assert re.search(r"^(\d+) of \1 results are here, and all their files are what their records say", verified)
    dry = clone.run("snakemake", "-n", "--cores", "1")
    assert "Nothing to be done" in dry.stdout + dry.stderr
    assert "up to date" in clone.run("dvc", "status").stdout


def test_an_edit_in_a_clone_runs_what_it_concerns(pushed, tmp_path):
    clone = clone_of(pushed, tmp_path / "clone", "copy")
    module = clone.folder / "jebm/sampling/pcnl.py"
    module.write_text(module.read_text().replace("math.sqrt(1 - step_size**2)", "(1 - step_size**2) ** 0.5"))
    assert "results are here" in clone.run("jebm", "verify").stdout, (
        "files are what their records say, whatever the code"
    )
    dry = clone.run("snakemake", "-n", "--cores", "1").stdout
    assert "rule train_prior" in dry
    assert "rule train_backbone" not in dry
    assert "code: jebm.sampling.pcnl edited" in clone.run("jebm", "why", "digits").stdout


@pytest.mark.parametrize("damage", ["flipped", "missing", "record"])
def test_damaged_files_of_a_clone_are_named_and_made_anew(pushed, tmp_path, damage):
    clone = clone_of(pushed, tmp_path / "clone", "copy")
    name = "provenance.json" if damage == "record" else "weights.safetensors"
    (path,) = clone.folder.glob(f"runs/train_backbone/*/seed1/{name}")
    status, content = path.stat(), path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage == "flipped" else b"{}")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    said = {"flipped": "has other content", "missing": "is missing", "record": "is not a record of jebm"}[damage]
    wrong = clone.run("jebm", "verify", check=False)
    assert wrong.returncode == 1
    assert f"{path.relative_to(clone.folder)}: {said}" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    target = str(path.relative_to(clone.folder).with_name("weights.safetensors"))
    dry = clone.run("snakemake", "-n", "--cores", "1", target).stdout
    assert "rule train_backbone" in dry
    assert "rule prepare_dataset" not in dry
    clone.run("snakemake", "--cores", "1", target)
    assert "results are here" in clone.run("jebm", "verify").stdout
    if damage != "record":
        assert path.read_bytes() == content, "training repeats to the bit"


def test_why_names_the_part_that_moved(pushed, tmp_path):
    clone = clone_of(pushed, tmp_path / "clone", "copy")
    target = "results/digits/tables/main.md"
    assert "is fresh" in clone.run("jebm", "why", target).stdout
    params = clone.params()
    params["digits"]["train_prior"]["learning_rate"] = 0.001
    clone.write_params(params)
    why = clone.run("jebm", "why", target).stdout
    line = next(line for line in why.splitlines() if "train_prior.learning_rate was 0.003, is 0.001" in line)
    assert "short-run" in line
    assert "train_prior × 1" in why
    assert "train_backbone" not in why
    priced = clone.run("jebm", "plan").stdout
    assert re.search(r"^train_prior +1 +[\d.]+$", priced, re.MULTILINE)
