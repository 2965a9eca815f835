"""A storm of edits: after each, the jobs that run are those that the content asks for, and ``jebm why`` says so too.

Three studies are finished once: the digits, a tabular one, and one of pictures in a folder. Each edit is tried with
four kinds of target: the study, a table, a figure, and everything. What must run is derived here from the edit itself:
the jobs that it touches, and, where their results may differ, all that stand behind them.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from jebm.config.read import read_params
from jebm.pipeline.jobs import Job, all_jobs
from jebm.pipeline.study import make_plan

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).resolve().parents[1] / "support"
STUDIES = ("digits", "tabular", "pictures")
REPORT = {"collect_metrics", "collect_plots", "render_table", "render_figure"}
MEASURE = {"evaluate_samples", "evaluate_density"}

PICTURES = """
extends: digits
dataset:
  name: images
  source: {name: folder, path: cats}
  size: 6
  mode: grey
  validation_count: 40
  test_count: 60
features: {name: identity}
draw_samples: {count: 100}
evaluate_density: {detection_samples: 0}
variants:
  gaussian: {prior: {name: gaussian}, draw_samples: {sampler: {name: ancestral}}}
  joint: {}
  both-stages-at-once:
    train_joint:
      {method: variational, start: backbone, steps: 6, batch_size: 32, learning_rate: 0.001,
       energy_learning_rate: 0.001, chain: {steps: 2, kernel: {name: pcnl, step_size: 0.4}}}
headline: {fd: {variants: [joint], metric: fd}}
tables:
  main: {variants: [gaussian, joint], metrics: [fd, kd, elbo]}
figures:
  samples: [gaussian, joint]
  langevin-steps: [gaussian, joint]
"""


@pytest.fixture(scope="module")
def finished(new_tiny, tmp_path_factory):
    """A working copy in which the three studies are finished."""
    space = new_tiny(tmp_path_factory.mktemp("storm"))
    params = space.params()
    full = yaml.safe_load((SUPPORT.parents[1] / "params.yaml").read_text(encoding="utf-8"))
    tabular = yaml.safe_load((SUPPORT.parents[1] / "params/tabular.yaml").read_text(encoding="utf-8"))
    digits = params["digits"]
    for block in ("train_backbone", "train_prior", "draw_samples", "evaluate_density"):
        tabular[block] |= {key: value for key, value in digits[block].items() if key in ("steps", "count")}
    tabular["evaluate_density"] |= {"importance_samples": 5, "detection_samples": 0, "partition_samples": 500}
    tabular |= {"seeds": [1], "headline": {}}
    tabular["variants"] = {name: tabular["variants"][name] for name in ("gaussian", "likelihood")}
    tabular["tables"] = {"main": tabular["tables"]["main"] | {"variants": ["gaussian", "likelihood"]}}
    tabular["figures"] = {"training": ["likelihood"]}
    tabular["evaluate_density"]["annealing"] = {"temperatures": 5, "chains": 20, "start_steps": 5}
    params["presets"] = full["presets"]
    params |= {"tabular": tabular, "pictures": yaml.safe_load(PICTURES), "default_studies": list(STUDIES)}
    digits["differences"] = {"evaluation": "evaluate_density", "less": {"short-run": "mixture"}}
    space.write_params(params)
    pixels = np.random.default_rng(0).integers(0, 256, (260, 8, 8, 3), dtype=np.uint8)
    for folder, order in (("cats", pixels), ("dogs", pixels[::-1])):
        (space.folder / folder).mkdir()
        for place, picture in enumerate(order):
            Image.fromarray(picture).save(space.folder / folder / f"{place:03}.png")
            os.utime(space.folder / folder / f"{place:03}.png", (10**9, 10**9))
    space.run("snakemake", "--cores", "2")
    return space


class Asked:
    """Commands in the working copy, and what they answered."""

    def __init__(self, space):
        self.process = subprocess.Popen(
            [sys.executable, str(SUPPORT / "dry_runs.py")],
            cwd=space.folder,
            env=space.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *commands: list[str]) -> list[tuple[set[tuple[str, str]], str]]:
        """The jobs that each command would run, as (rule, first output), and what it printed."""
        self.process.stdin.write(json.dumps(commands) + "\n")
        self.process.stdin.flush()
        found = json.loads(self.process.stdout.readline())
        for status, _, text in found:
            assert status == 0, text
        return [({(r, out) for r, out in jobs if r not in ("all", "core", *STUDIES)}, text) for _, jobs, text in found]

    def dry_run(self, *targets: str) -> set[tuple[str, str]]:
        return self(["snakemake", *targets, "-n", "--cores", "1"])[0][0]


@pytest.fixture(scope="module")
def ask(finished):
    """Asks what would run."""
    asked = Asked(finished)
    yield asked
    asked.process.stdin.close()
    asked.process.wait(10)


@dataclass
class Graph:
    """The jobs of the parameters as they stand, from which the expectation is derived."""

    jobs: list[Job]

    @classmethod
    def of(cls, space) -> "Graph":
        with _inside(space.folder):
            return cls(list(all_jobs(make_plan(read_params(Path("params.yaml"))).values()).values()))

    def behind(self, roots: set[str]) -> set[str]:
        """The provenance records of some jobs and of all that read what they make, directly or not."""
        reached, touched = set(), set()
        for job in self.jobs:  # each stands after those that it reads from
            if job.provenance in roots or touched & set(job.input_files):
                reached.add(job.provenance)
                touched |= set(job.outputs)
        return reached

    def needed(self, targets: list[str], wrong: set[str]) -> set[tuple[str, str]]:
        """Of some jobs that are not fresh, those that some files need; a fresh result needs nothing."""
        makers = {path: job for job in self.jobs for path in job.outputs}
        found, todo = set(), [makers[path] for path in targets]
        while todo:
            job = todo.pop()
            if job.provenance in wrong and (job.rule, job.outputs[0]) not in found:
                found.add((job.rule, job.outputs[0]))
                todo += [makers[path] for path in job.input_files if path in makers]
        return found

    def outputs(self, study: str) -> list[str]:
        """Everything that a study leaves."""
        with_shared = {job.provenance: job for job in self.jobs if job.study == study}
        makers = {path: job for job in self.jobs for path in job.outputs}
        todo = list(with_shared.values())
        while todo:
            for path in todo.pop().input_files:
                if path in makers and makers[path].provenance not in with_shared:
                    with_shared[makers[path].provenance] = makers[path]
                    todo.append(makers[path])
        return [path for job in with_shared.values() for path in job.outputs]


@contextmanager
def _inside(folder: Path):
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def content(path: Path, new: bytes | None):
    """A file with other content, or without the file, until the end; then the very same bytes and time as before."""
    old, times = (path.read_bytes(), path.stat()) if path.exists() else (None, None)
    try:
        if new is None:
            path.rename(path.with_name(f"{path.name}.aside"))
        else:
            path.write_bytes(new)
        yield
    finally:
        if new is None:
            path.with_name(f"{path.name}.aside").rename(path)
        elif old is None:
            path.unlink()
        else:
            path.write_bytes(old)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def check(finished, ask, study: str, wrong: Callable[[Graph], set[str]]) -> None:
    """See that a dry run and ``jebm why`` name the expected jobs for each kind of target of a study."""
    graph = Graph.of(finished)
    records = wrong(graph)
    table = f"results/{study}/tables/{'detection-auroc' if study == 'digits' else 'main'}.md"
    figure = f"results/{study}/figures/{'training' if study == 'tabular' else 'langevin-steps'}.png"
    targets = {study: graph.outputs(study), table: [table], figure: [figure]}
    everything = [path for job in graph.jobs for path in job.outputs]
    dry = [["snakemake", target, "-n", "--cores", "1"] for target in (*targets, "all")]
    found = ask(*dry, *(["jebm", "why", target] for target in targets))
    for (target, files), (jobs, _) in zip([*targets.items(), ("all", everything)], found[:4], strict=True):
        assert jobs == graph.needed(files, records), target
    for (target, files), (_, told) in zip(targets.items(), found[4:], strict=True):
        counted = dict(re.findall(r"(\w+) × (\d+)", told.partition("would run: ")[2]))
        rules = [rule for rule, _ in graph.needed(files, records)]
        assert counted == {rule: str(rules.count(rule)) for rule in set(rules)}, told
        assert ("is fresh" in told) == (not rules), target


PARAMETERS: dict[str, list[tuple[str, object]]] = {
    "digits": [
        ("compute.threads", 2),
        ("dataset.split_seed", 1),
        ("dataset.test_count", 499),
        ("dataset.ood_sets", ["uniform"]),
        ("features.steps", 41),
        ("backbone.latent_dims", [15, 8]),
        ("backbone.likelihood.sigma", 0.21),
        ("train_backbone.steps", 61),
        ("train_backbone.kl_warmup", [[0.0, 0.06], [0.05, 0.3]]),
        ("prior.energy.hidden", 127),
        ("train_prior.steps", 11),
        ("train_prior.estimator.steps", 4),
        ("train_prior.estimator.kernel.step_size", 0.36),
        ("draw_samples.count", 201),
        ("draw_samples.sampler.steps", 21),
        ("evaluate_samples.kernel_distance_subsets", 6),
        ("evaluate_density.partition_samples", 501),
        ("variants.short-run-density.draw_samples.sampler.pool", 501),
        ("variants.mixture.prior.components", [2]),
        ("variants.short-run.evaluations", {"layers": {"name": "layers"}}),
        ("seeds", [1, 2]),
        ("differences.less", {"short-run-density": "mixture"}),
        ("headline", {"other_fd": {"variants": ["mixture"], "metric": "fd"}}),
        ("tables.main.caption", "Another."),
        ("tables.main.metrics", ["fd"]),
        ("figures.samples", ["gaussian"]),
    ],
    "tabular": [
        ("dataset.levels", 128),
        ("dataset.validation_count", 99),
        ("features", {"name": "identity"}),
        ("backbone.hidden", 63),
        ("train_backbone.learning_rate", 0.0011),
        ("prior.energy.depth", 1),
        ("train_prior.weight_decay", 0.31),
        ("draw_samples.sampler.pool", 90000),
        ("evaluate_samples.reference", "validation"),
        ("evaluate_density.importance_samples", 6),
        ("variants.likelihood.train_prior", {"steps": 12}),
        ("seeds", [2]),
        ("tables.main.notes", ["A note."]),
    ],
    "pictures": [
        ("dataset.source.path", "dogs"),
        ("dataset.size", 5),
        ("dataset.crop", 7),
        ("dataset.test_count", 61),
        ("dataset.validation_count", 41),
        ("dataset.background", "black"),
        ("dataset.resample", "bicubic"),
        ("dataset.split_seed", 3),
        ("features", {"name": "identity"}),
        ("backbone", {"hidden": 31}),
        ("train_backbone", {"batch_size": 64}),
        ("train_prior", {"steps": 9}),
        ("draw_samples.count", 101),
        ("evaluate_samples", {"kernel_distance_subset_size": 20}),
        ("evaluate_density", {"detection_samples": 0, "importance_samples": 4}),
        ("variants.joint.prior", {"energy": {"layers": [1]}}),
        ("variants.both-stages-at-once.train_joint.steps", 7),
        ("variants.both-stages-at-once.train_joint.start", "scratch"),
        ("headline.fd.metric", "kd"),
        ("seeds", [1, 3]),
        ("figures.samples", ["joint"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("study", "key", "value"), [(s, *edit) for s, edits in PARAMETERS.items() for edit in edits])
def test_an_edit_of_the_parameters(finished, ask, study, key, value):
    """Jobs that were never made with these parameters run, and what stands behind them; with an old file time too."""
    before = {job.provenance: job.parameters for job in Graph.of(finished).jobs}
    params = finished.params()
    block = params[study]
    *blocks, last = key.split(".")
    for part in blocks:
        block = block[part] if isinstance(block.get(part), dict) else block.setdefault(part, {})
    block[last] = value
    text = yaml.safe_dump(params, sort_keys=False).encode()
    with content(finished.folder / "params.yaml", text):
        os.utime(finished.folder / "params.yaml", (10**9, 10**9))

        def wrong(graph: Graph) -> set[str]:
            return graph.behind({job.provenance for job in graph.jobs if before.get(job.provenance) != job.parameters})

        check(finished, ask, study, wrong)


NOTHING: set[str] = set()
CODE = [
    ("a comment", "jebm/sampling/pcnl.py", "import math\n", "import math  # for the root\n\n# A comment.\n", NOTHING),
    ("a docstring", "jebm/sampling/pcnl.py", "it leaves N(0, I) invariant", "N(0, I) is left invariant", NOTHING),
    ("a help text", "jebm/cli/inspect.py", "Check the parameters", "Look at the parameters", NOTHING),
    ("how freshness is decided", "jebm/pipeline/results.py", "time.monotonic()", "time.time()", NOTHING),
    (
        "the layout of a shell line",
        "workflow/rules/data.smk",
        "jebm run {params.job} >",
        "jebm  run   {params.job}  >",
        NOTHING,
    ),
    ("a runtime setting", "params.yaml", "checkpoint_seconds: 60", "checkpoint_seconds: 61", NOTHING),
    ("an unrelated file", "README.md", "", "Jebm", NOTHING),
    (
        "the kernel",
        "jebm/sampling/pcnl.py",
        "self.contraction = math.sqrt(1 - step_size**2)",
        "self.contraction = (1 - step_size**2) ** 0.5",
        {"pcnl", "evaluate_density"},
    ),
    ("a distance", "jebm/metrics/frechet.py", "f.mean(0)", "f.mean(axis=0)", {"evaluate_samples", "evaluate_floor"}),
    ("detection", "jebm/metrics/detection.py", "0.8", "0.80001", {"evaluate_density"}),
    ("a figure", "jebm/report/figures/samples.py", "COLUMNS = ROWS = 10", "COLUMNS = ROWS = 11", {"samples.png"}),
    ("the first objective", "jebm/training/elbo.py", "-log_px +", "0.0 - log_px +", {"train_backbone"}),
    ("the mixture", "jebm/models/priors/mixture.py", "import torch\n", "import torch\n\nX = 1\n", {"mixture"}),
    ("the digits", "jebm/data/digits.py", "import torch\n", "import torch\n\nX = 1\n", {"data/digits"}),
    ("the folder of pictures", "jebm/data/sources/folder.py", "import ", "import sys\nimport ", {"data/folder"}),
    ("collecting", "jebm/report/collect.py", "import pandas", "import sys\nimport pandas", {"collect_metrics"}),
]


def _components(parameters: object) -> set[str]:
    """The names of all components that a job's parameters have, at any depth."""
    if isinstance(parameters, list):
        return set().union(*map(_components, parameters))
    if not isinstance(parameters, dict):
        return set()
    named = parameters.get("name")
    return ({named} if isinstance(named, str) else set()).union(*map(_components, parameters.values()))


def _touched(job: Job, words: set[str]) -> bool:
    """Whether a word means a job: a rule, a component in its parameters, an output's beginning, a file's name."""
    names = {job.rule} | _components(job.parameters)
    return any(
        word in names or path.startswith(word) or path.endswith(f"/{word}") for word in words for path in job.outputs
    )


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize(("path", "old", "new", "touched"), [edit[1:] for edit in CODE], ids=[edit[0] for edit in CODE])
def test_an_edit_of_the_code(finished, ask, study, path, old, new, touched):
    """Jobs run whose command imports an edited module; comments, docstrings and layout are no edits."""
    file = finished.folder / path
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    assert old in text
    with content(file, text.replace(old, new, 1).encode()):

        def wrong(graph: Graph) -> set[str]:
            return graph.behind({job.provenance for job in graph.jobs if _touched(job, touched)})

        check(finished, ask, study, wrong)


@pytest.mark.parametrize("change", ["other pixels", "one picture more", "one less", "another name"])
def test_an_edit_of_the_pictures(finished, ask, change):
    """The contents and names of the files in the folder count, with an older time too."""
    folder = finished.folder / "cats"
    first = folder / "000.png"
    if change == "another name":
        first.rename(folder / "zebra.png")
    elif change == "one picture more":
        shutil.copy(first, folder / "more.png")
    else:
        first.rename(finished.folder / "kept.png")
        if change == "other pixels":
            shutil.copy(folder / "001.png", first)
            os.utime(first, (10**8, 10**8))
    try:

        def wrong(graph: Graph) -> set[str]:
            return graph.behind({job.provenance for job in graph.jobs if job.outputs[0].startswith("data/folder")})

        check(finished, ask, "pictures", wrong)
        assert {rule for rule, _ in ask.dry_run("digits")} == set()
    finally:
        for source, target in (("kept.png", first), ("cats/zebra.png", first)):
            if (finished.folder / source).exists():
                (finished.folder / source).rename(target)
        (folder / "more.png").unlink(missing_ok=True)
    assert ask.dry_run("all") == set()


FILES = [
    "data/folder-*/images.safetensors",
    "data/digits-*/manifest.json",
    "runs/train_features/digits-*/weights.safetensors",
    "runs/train_backbone/pictures-*/seed1/weights.safetensors",
    "runs/train_backbone/tabular-*/seed1/record.json",
    "runs/train_prior/digits-layerwise-*/seed1/history.csv",
    "runs/draw_samples/digits-*/seed1/samples.safetensors",
    "runs/evaluate_samples/pictures-*/seed1/metrics.json",
    "runs/evaluate_density/tabular-*/seed1/arrays.safetensors",
    "runs/evaluate_floor/digits-*/metrics.json",
    "results/digits/metrics.csv",
    "results/pictures/tables/main.md",
    "results/tabular/figures/training.png",
    "runs/train_prior/pictures-*/seed1/provenance.json",
    "runs/render_table/digits/main.json",
]


@pytest.mark.parametrize("change", ["deleted", "damaged, with an old time", "emptied"])
@pytest.mark.parametrize("pattern", FILES)
def test_a_file_that_is_not_what_was_made(finished, ask, pattern, change):
    """The job that makes the file runs where the file is asked for; a fresh result does not need it back."""
    path = sorted(finished.folder.glob(pattern))[0]
    name = path.relative_to(finished.folder).as_posix()
    study = next((study for study in STUDIES if study in name), "pictures")
    old, status = path.read_bytes(), path.stat()
    broken = {"deleted": None, "emptied": b"", "damaged, with an old time": old[:-1] + bytes([old[-1] ^ 1])}[change]
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)  # a new file, as an editor writes it: the kept result has the old one
    if broken is not None:
        path.write_bytes(broken)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 10**15))
    try:
        check(finished, ask, study, lambda graph: {job.provenance for job in graph.jobs if name in job.outputs})
    finally:
        aside.replace(path)


@pytest.mark.parametrize("when", ["long ago", "to come", "in no order"])
@pytest.mark.parametrize("options", [(), ("--profile", "none", "--workflow-profile", "none")], ids=["ours", "none"])
def test_file_times_mean_nothing(finished, ask, when, options):
    """Under our profile and under none, where Snakemake asks its own notes too."""
    rng = random.Random(0)
    for path in sorted(finished.folder.rglob("*")):
        if path.is_file() and ".snakemake" not in path.parts and ".jebm" not in path.parts:
            time = {"long ago": 10**9, "to come": 4 * 10**9}.get(when, 1_700_000_000 + rng.randrange(10_000_000))
            os.utime(path, (time, time))
    for target in ("all", "results/digits/tables/main.md", "pictures"):
        assert ask.dry_run(target, *options) == set()


def test_early_cutoff(finished):
    """A job that runs again and makes the same bytes: in the same run, what stands behind it finds its key."""
    file = finished.folder / "jebm/data/digits.py"
    logs = finished.folder / "logs"
    with content(
        file, file.read_text(encoding="utf-8").replace("import torch\n", "import torch\n\nX = 1\n", 1).encode()
    ):
        shutil.rmtree(logs)
        finished.run("snakemake", "--cores", "2", "digits")
        said = {path.parent.name: path.read_text(encoding="utf-8") for path in logs.rglob("*.log")}
        assert "taken from" not in said.pop("prepare_dataset")
        said.pop("logs", None)  # the fork server's
        assert len(said) >= 9
        assert all("taken from .jebm/results" in text for text in said.values())
        assert "Nothing to be done" in finished.run("snakemake", "-n", "digits").stdout
    shutil.rmtree(logs)
    again = finished.run("snakemake", "--cores", "2", "digits")  # back to the old code: its results are kept
    assert all("taken from .jebm/results" in path.read_text() for path in logs.rglob("*/*.log")), again.stdout


def test_a_clone_with_recorded_results_has_made_nothing(finished, tmp_path):
    """What stands in results/ counts as made only with the records of this code, these parameters and these data."""
    clone = tmp_path / "clone"
    made = {"runs", "data", ".jebm", ".snakemake", "logs"}

    def ignored(folder: str, names: list[str]) -> set[str]:
        return made & set(names) if Path(folder) == finished.folder else set()

    shutil.copytree(finished.folder, clone, ignore=ignored)
    done = subprocess.run(
        ["snakemake", "-n", "--cores", "1", "results/digits/tables/main.md"],
        cwd=clone, env={**finished.environment, "PYTHONPATH": str(clone)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    table = done.stdout.partition("Job stats:")[2].partition("\n\n")[0]
    assert {"prepare_dataset", "train_backbone", "train_prior", "collect_metrics", "render_table"} <= set(
        re.findall(r"^(\w+)\s+\d+$", table, re.MULTILINE)
    )
