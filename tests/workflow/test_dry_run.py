"""What only looks changes nothing on disk: no content, no time, no file more or less.

What Snakemake and the pipeline may write for themselves is named here, and nothing of it is a result.
"""

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRATCH = (
    ".snakemake/log",  # Snakemake's log of every start
    ".snakemake/iocache",  # its memory of which files exist, empty folders without a rule's run
    ".snakemake/report",
    ".jebm/cache",  # digests of files whose size, times and inode are known, what modules say, and stamps
    "jebm",  # Python's compiled modules
)
"""Folders that are no part of the comparison."""
LOOKS = [
    "snakemake -n",
    "snakemake -n --cores 1 core",
    "snakemake --lint",
    "snakemake --summary",
    "snakemake --list-rules",
    "snakemake --report report.html",
    "jebm list",
    "jebm plan",
    "jebm plan --slurm",
    "jebm status",
    "jebm why digits",
    "jebm why results/digits/tables/main.md",
    "jebm verify",
    "jebm show",
    "jebm preview digits",
    "jebm assets",
]
EDITS = {
    "fresh": lambda space: None,
    "code": lambda space: replace(space, "jebm/training/elbo.py", "-log_px +", "0.0 - log_px +"),
    "parameters": lambda space: replace(space, "params.yaml", "learning_rate: 0.003", "learning_rate: 0.002"),
    "deleted": lambda space: next(space.folder.glob("runs/train_backbone/*/seed1/weights.safetensors")).unlink(),
    "never run": lambda space: space.run("rm", "-rf", "data", "runs", "results", ".jebm"),
}
"""What the study is like when it is looked at. Each comes on top of the ones before."""


def replace(space, path, old, new):
    file = space.folder / path
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def snapshot(folder: Path) -> dict[str, tuple]:
    """Path → size, times, inode and content of every file; the names of folders."""
    found: dict[str, tuple] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == ".jebm" or name.startswith(SCRATCH):  # with all caches deleted, it comes back for them
            continue
        status = os.lstat(path)
        found[name] = ("folder",)
        if not path.is_dir():
            found[name] = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode, path.read_bytes())
    return found


@pytest.fixture(scope="module")
def space(new_tiny, tmp_path_factory):
    space = new_tiny(tmp_path_factory.mktemp("look"))
    space.run("snakemake", "--cores", "2")
    state = space.folder / ".jebm/state/train_prior/0123456789/seed1/state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"unfinished work")
    return space


@pytest.mark.timeout(600)
@pytest.mark.parametrize("edit", EDITS)
def test_looking_changes_nothing(space, edit):
    EDITS[edit](space)
    for look in LOOKS:
        before = snapshot(space.folder)
        space.run(*look.split(), check=False)
        after = snapshot(space.folder)
        if "--report" in look:
            after.pop("report.html", None)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert not changed, f"`{look}` wrote {sorted(changed)[:10]}"
        (space.folder / "report.html").unlink(missing_ok=True)
