"""What runs again after an edit: exactly what depends on its content, whatever the clock says."""

import os
import random
import re
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.slow

REPORT = {"collect_metrics", "collect_plots", "render_table", "render_figure"}
EVALUATION = {"evaluate_samples", "evaluate_density"}


def pending(space) -> set[str]:
    """The rules that a dry run would run."""
    done = space.run("snakemake", "-n", "--cores", "1")
    table = done.stdout.partition("Job stats:")[2].partition("\n\n")[0]
    return {rule for rule, _ in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)} - {"all", "total"}


@contextmanager
def edited(space, path: str, old: str, new: str):
    """A file with one passage replaced, and put back afterwards."""
    file = space.folder / path
    before = file.read_text(encoding="utf-8")
    assert before.count(old) >= 1, f"{path} does not contain {old!r}"
    file.write_text(before.replace(old, new, 1), encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("jebm/sampling/pcnl.py", "import math\n", "import math  # for the root\n\n# A comment.\n"),
        ("jebm/sampling/pcnl.py", "the natural chain for a tilt", "a chain for a tilt"),
        ("jebm/cli/main.py", '"""Draw images from a prior."""', '"""Draw some images from a prior."""'),
        ("workflow/rules/sample.smk", '"{params.launcher} draw-samples {', '"{params.launcher}  draw-samples   {'),
        ("params.yaml", "checkpoint_seconds: 60", "checkpoint_seconds: 61"),
        ("README.md", "jebm", "Jebm"),
    ],
    ids=["comment", "docstring", "help text", "layout of a shell line", "runtime setting", "unrelated file"],
)  # fmt: skip
def test_an_edit_without_effect_runs_nothing(tiny, path, old, new):
    if path == "README.md":
        (tiny.folder / path).write_text("jebm", encoding="utf-8")
    with edited(tiny, path, old, new):
        assert pending(tiny) == set()


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        (
            "jebm/sampling/pcnl.py",
            "self.contraction = math.sqrt(1 - step_size**2)",
            "self.contraction = (1 - step_size**2) ** 0.5",
            {"train_prior", "draw_samples", *EVALUATION, *REPORT},
        ),
        ("jebm/metrics/frechet.py", "f.mean(0)", "f.mean(axis=0)", {"evaluate_samples", "evaluate_floor", *REPORT}),
        ("jebm/metrics/detection.py", "0.8", "0.80001", {"evaluate_density", *REPORT}),
        ("jebm/report/figures/samples.py", "COLUMNS = ROWS = 10", "COLUMNS = ROWS = 11", {"render_figure"}),
        (
            "jebm/training/elbo.py",
            "-log_px +",
            "0.0 - log_px +",
            {"train_backbone", "train_prior", "draw_samples", *EVALUATION, *REPORT},
        ),
    ],
    ids=["kernel", "distance", "detection", "figure", "objective"],
)  # fmt: skip
def test_an_edited_module_runs_what_imports_it_and_what_follows(tiny, path, old, new, expected):
    with edited(tiny, path, old, new):
        assert pending(tiny) == expected
    assert pending(tiny) == set()


def test_touching_and_shuffling_times_runs_nothing(tiny):
    stream = random.Random(0)
    for path in sorted(tiny.folder.rglob("*")):
        if path.is_file() and ".snakemake" not in path.parts and ".jebm" not in path.parts:
            time = 1_700_000_000 + stream.randrange(10_000_000)
            os.utime(path, (time, time))
    assert pending(tiny) == set()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("data/*/images.safetensors", {"train_features", "train_backbone", "prepare_dataset"}),
        ("runs/backbone-*/seed1/weights.safetensors", {"train_backbone", "train_prior", "draw_samples"}),
        ("runs/samples-*/seed1/samples.safetensors", {"draw_samples", "evaluate_samples"}),
    ],
)
def test_changed_content_with_an_old_time_is_noticed(tiny, pattern, expected):
    path = sorted(tiny.folder.glob(pattern))[0]
    content, status = path.read_bytes(), path.stat()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 10**15))
    try:
        assert expected <= pending(tiny)
    finally:
        path.write_bytes(content)
    assert pending(tiny) == set()


def test_a_missing_intermediate_is_made_again_with_what_follows(tiny):
    path = sorted(tiny.folder.glob("runs/samples-*/seed1/samples.safetensors"))[0]
    aside = path.with_suffix(".aside")
    path.rename(aside)
    assert "draw_samples" in pending(tiny)
    aside.rename(path)
    assert pending(tiny) == set()
