"""A mistake in params.yaml ends Snakemake with one line that names the key, before any job starts."""

import archives
import pytest
import toy

from jebm.config.read import RESERVED, read_params

MISTAKES = {
    "unknown key": (("train_prior", "lerning_rate"), 1.0, ["digits.train_prior.lerning_rate:", "learning_rate"]),
    "wrong type": (("train_backbone", "steps"), "many", ["digits.train_backbone.steps:", "integer", "'many'"]),
    "negative": (
        ("train_prior", "estimator", "pool"),
        -3,
        ["digits.train_prior.estimator.pool:", "greater than or equal"],
    ),
    "length": (("train_backbone", "kl_warmup"), [[0.0, 0.1]] * 3, ["digits.train_backbone.kl_warmup:", "2 layers"]),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
@pytest.mark.parametrize("tool", [("snakemake", "-n"), ("jebm", "plan")], ids=" ".join)
def test_one_line_names_the_key_and_what_is_allowed(workspace, mistake, tool):
    path, value, expected = MISTAKES[mistake]
    params = workspace.params()
    block = params["digits"]
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    workspace.write_params(params)
    done = workspace.run(*tool, check=False)
    assert done.returncode != 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "params.yaml: " in line]
    assert len(lines) == 1
    assert all(part in lines[0] for part in expected), lines[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_parameters_from_the_command_line_are_refused(workspace):
    done = workspace.run("snakemake", "-n", "--config", "default_studies=[]", check=False)
    assert done.returncode != 0
    assert "--config: parameters come from params.yaml alone; edit it" in done.stderr


def test_mistake_in_another_file_of_parameters_names_that_file(workspace):
    path = workspace.folder / "params/depth.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("blocks: 1\n", "block: 1\n"), encoding="utf-8")
    for tool in (("snakemake", "-n"), ("jebm", "plan")):
        done = workspace.run(*tool, check=False)
        assert done.returncode != 0
        assert "params/depth.yaml: backbone.block: unknown key; did you mean 'blocks'?" in done.stderr
        assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [("digit", "digits"), ("results/digits/tables/mian.md", "results/digits/tables/main.md"), ("cores", "core")],
)
def test_a_mistyped_target_is_one_line_with_the_nearest_name(workspace, mistyped, meant):
    done = workspace.run("snakemake", "-n", mistyped, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {mistyped}: no such target; did you mean '{meant}'?")
    assert "Traceback" not in done.stdout + done.stderr


def test_no_line_of_a_dry_run_is_longer_than_a_screen(workspace):
    done = workspace.run("snakemake", "-n")
    assert max(map(len, (done.stdout + done.stderr).splitlines())) < 600


def test_a_dry_run_refuses_a_study_whose_folder_is_missing(workspace):
    (workspace.folder / "params/mine.yaml").write_text(
        "extends: digits\n"
        "dataset: {name: images, source: {name: folder, path: nowhere}, size: 8, test_count: 100}\n"
        "features: {name: identity}\n"
        "variants: {joint: {}}\ntables: {main: {metrics: [fd]}}\nfigures: {samples: [joint]}\n",
        encoding="utf-8",
    )
    done = workspace.run("snakemake", "-n", "mine", check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: params/mine.yaml: dataset.source.path: there is no folder and no zip file 'nowhere'"
    )
    assert workspace.run("snakemake", "-n", "core").returncode == 0


def test_a_study_is_not_called_like_a_rule(workspace):
    lines = workspace.run("snakemake", "--list-rules").stdout.splitlines()
    studies = set(read_params(workspace.folder / "params.yaml").studies)
    rules = {line.split()[0] for line in lines} - studies - {f"assets_{study}" for study in studies}
    assert rules == set(RESERVED)


@pytest.mark.parametrize("tool", [("snakemake", "-n"), ("jebm", "plan")], ids=" ".join)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("core", ", since a rule of Snakemake is"),
        ("assets_digits", ", since a rule of Snakemake is"),
        ("my cats", ": its name must be letters, digits, underscores and hyphens"),
    ],
)
def test_a_study_with_a_name_that_is_taken_is_one_line(workspace, tool, name, reason):
    params = workspace.params()
    workspace.write_params({**params, name: params["digits"]})
    done = workspace.run(*tool, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"error: params.yaml: {name}: a study can't be called '{name}'{reason}"
    assert "Traceback" not in done.stdout + done.stderr


def test_the_last_line_of_a_failed_run_says_why(workspace):
    """Several jobs fail for the same reason; what comes before is Snakemake's."""
    pictures = archives.folder(workspace.folder / "pictures", count=30)
    (pictures / "0/0000.png").write_text("not an image")
    block = {"name": "images", "source": {"name": "folder", "path": "pictures"}, "size": 2, "validation_count": 5}
    study = toy.params({"toy/dataset": block | {"mode": "grey", "test_count": 8}, "toy/features": {"name": "identity"}})
    workspace.write_params(study)
    done = workspace.run("snakemake", "--cores", "1", "toy", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: prepare_dataset folder-")
    assert "0/0000.png: unknown image format (log: logs/prepare_dataset/folder-" in done.stderr.splitlines()[-1]
    assert not (workspace.folder / "results").exists()
