"""A backbone that was trained elsewhere in place of stage 1: parameters, plan, and the verbs that a user types."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy
import yaml
from published_nvae import content, saved
from typer.testing import CliRunner

from jebm.cli.main import app
from jebm.config.read import parse_params
from jebm.errors import JebmError, ParamsError
from jebm.io.files import read_json
from jebm.io.tensors import read_tensors
from jebm.models.backbones.nvae.hierarchy import NvaeHierarchy
from jebm.models.checkpoints.base import Imported, write_imported
from jebm.pipeline.jobs import all_jobs, stage_job
from jebm.pipeline.study import make_plan
from jebm.runtime.random import make_rng

ROOT = Path(__file__).parents[2]
BACKBONE = {
    "layers_per_scale": [1, 1], "latent_channels": 1, "encoder_channels": 4, "decoder_channels": 4,
    "preprocess_cells": 1, "postprocess_cells": 1, "encoder_cells": 1, "decoder_cells": 1,
    "likelihood": {"name": "nvae-logistic-mixture", "levels": 17, "components": 2},
}  # fmt: skip


def with_levels(levels):
    return BACKBONE | {"likelihood": BACKBONE["likelihood"] | {"levels": levels}}


SOURCE = {"format": "jebm", "checkpoint": "weights.safetensors"}


def params(backbone=BACKBONE, source=SOURCE, **changes):
    return toy.params(
        {
            "toy/backbone": {"name": "nvae", **backbone},
            "toy/train_backbone": None,
            "toy/import_backbone": source,
            **changes,
        }
    )


def test_it_is_a_stage_of_its_own_that_all_seeds_share():
    plan = make_plan(parse_params(params()))["toy"]
    variant = plan.variants["joint"]
    assert variant.backbone.kind == "import_backbone"
    assert str(variant.backbone.run_folder(1)) == f"runs/import_backbone/toy-nvae-{variant.backbone.id}"
    assert variant.prior.parent == variant.backbone
    job = stage_job(plan, variant, variant.backbone, None)
    assert job.rule == "import_backbone"
    assert job.inputs["outside"] == ("weights.safetensors",)
    assert "jebm.models.checkpoints.base" in job.entries
    rules = [rule for rule, _ in all_jobs([plan])]
    assert rules.count("import_backbone") == 1
    assert "train_backbone" not in rules
    reads = stage_job(plan, variant, variant.prior, 1).inputs["backbone"]
    assert reads == (f"{variant.backbone.folder}/weights.safetensors",)
    assert [kind for *_, kind, _ in plan.record_files()].count("backbone") == 2 * len(plan.variants)


def test_the_file_and_what_is_done_to_it_are_part_of_its_identity():
    ids = {
        make_plan(parse_params(params(source=SOURCE | change)))["toy"].variants["joint"].backbone.id
        for change in ({}, {"checkpoint": "other.safetensors"}, {"recalibrate": {"passes": 5}}, {"recalibrate": None})
    }
    assert len(ids) == 3


def test_it_may_be_an_asset_whose_digest_is_part_of_its_identity():
    def planned(digest):
        weights = {"file": "weights.safetensors", "digest": f"md5:{digest * 32}"}
        content = params(source={"format": "jebm", "asset": "weights"}) | {"assets": {"weights": weights}}
        return make_plan(parse_params(content))["toy"]

    first, other = planned("0"), planned("1")
    variant = first.variants["joint"]
    assert stage_job(first, variant, variant.backbone, None).inputs["outside"] == ("assets/weights.safetensors",)
    assert first.asset_names() == ["weights"]
    assert variant.backbone.id != other.variants["joint"].backbone.id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"toy/import_backbone": None}, r"toy\.train_backbone: is required, but missing; or give import_backbone"),
        ({"toy/train_backbone": toy.params()["toy"]["train_backbone"]}, r"toy\.import_backbone: .* set one to null"),
        ({"toy/import_backbone": SOURCE | {"format": "pickle"}}, r"import_backbone\.format: 'pickle' is unknown"),
        ({"toy/import_backbone": SOURCE | {"chekpoint": "x"}}, r"import_backbone\.chekpoint: unknown key"),
        ({"toy/import_backbone": {"format": "nvae"}}, r"import_backbone\.checkpoint: name the file either by its path"),
        ({"toy/import_backbone": SOURCE | {"asset": "weights"}}, r"import_backbone\.checkpoint: name the file either"),
        ({"toy/import_backbone": {"format": "nvae", "asset": "weights"}}, r"'weights' is no asset"),
        ({"toy/backbone/architecture": "res_mbcon"}, r"backbone\.architecture: 'res_mbcon' is unknown; did you mean"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ParamsError, match=message):
        parse_params(params(**changes))


class Folder:
    """A project with the toy study whose backbone is a file; verbs run in this process, which saves their imports."""

    def __init__(self, folder):
        self.path = folder
        hierarchy = NvaeHierarchy((1, 8, 8), **BACKBONE)
        hierarchy.initialise(make_rng("imported"))
        self.weights = hierarchy.state_dict()
        facts = {"source": "elsewhere", "licence": "Somebody's."}
        write_imported(folder / "weights.safetensors", Imported("nvae", (1, 8, 8), BACKBONE, self.weights, facts))

    def write(self, content):
        (self.path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    def jebm(self, *words):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.path)
            for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
                patch.setenv(name, "1")
            try:
                return CliRunner().invoke(app, words)
            finally:
                torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("project"))
    folder.write(params())
    assert folder.jebm("run", "prepare_dataset", "toy", "--variant", "joint").exit_code == 0
    return folder


def test_stage_2_and_sampling_stand_on_an_imported_backbone(project):
    recalibrated = params(source=SOURCE | {"recalibrate": {"passes": 3, "batch_size": 4}})
    recalibrated["toy"]["train_prior"] |= {"steps": 2}
    recalibrated["toy"]["draw_samples"] |= {"count": 4}
    recalibrated["toy"]["draw_samples"]["sampler"] |= {"steps": 2}
    project.write(recalibrated)
    done = project.jebm("run", "import_backbone", "toy", "--variant", "joint")
    assert done.exit_code == 0, done.output
    assert "Somebody's." in done.output
    variant = make_plan(parse_params(recalibrated))["toy"].variants["joint"]
    folder = project.path / variant.backbone.folder
    weights, header = read_tensors(folder / "weights.safetensors")
    assert header["kind"] == "import_backbone"
    moved = {key for key, value in project.weights.items() if not torch.equal(value, weights[key])}
    assert moved
    assert all("running" in key or "tracked" in key for key in moved)
    record = read_json(folder / "record.json")
    assert record["recalibrated"] == {"passes": 3, "batch_size": 4, "temperature": 1.0}
    assert record["licence"] == "Somebody's."
    for rule in ("train_prior", "draw_samples"):
        done = project.jebm("run", rule, "toy", "--variant", "joint", "--seed", "1")
        assert done.exit_code == 0, done.output
    samples, _ = read_tensors(project.path / variant.samples.run_folder(1) / "samples.safetensors")
    assert samples["images"].shape == (4, 1, 8, 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            params(backbone=with_levels(32) | {"decoder_channels": 8, "flows": 1}),
            "params.yaml: toy.backbone: decoder_channels is 8, the checkpoint has 4; likelihood.levels is 32, the",
        ),
        (
            params(source=SOURCE | {"checkpoint": "no.safetensors"}),
            "toy.import_backbone.checkpoint: there is no file",
        ),
        (params(source=SOURCE | {"format": "nvae"}), "weights.safetensors: not a checkpoint of PyTorch"),
        (
            params(**{"toy/backbone": {"name": "perceptron", "latent_dims": [4, 2]}}),
            "params.yaml: toy.backbone.name: is 'perceptron', the checkpoint holds the backbone 'nvae'",
        ),
    ],
)
def test_a_file_that_the_study_does_not_mean_is_refused(project, content, message):
    project.write(content)
    done = project.jebm("run", "import_backbone", "toy", "--variant", "joint")
    assert isinstance(done.exception, JebmError)
    assert str(done.exception).startswith(message)
    folder = project.path / make_plan(parse_params(content))["toy"].variants["joint"].backbone.folder
    assert not list(folder.glob("*"))


def test_data_of_another_size_or_depth_are_refused(project):
    for shape, levels, message in (((1, 16, 16), 17, "[1, 8, 8], the checkpoint is"), ((1, 8, 8), 32, "has 17 levels")):
        backbone = with_levels(levels)
        hierarchy = NvaeHierarchy(shape, **backbone)
        hierarchy.initialise(make_rng("other"))
        path = project.path / "other.safetensors"
        write_imported(path, Imported("nvae", shape, backbone, hierarchy.state_dict(), {"levels": levels}))
        project.write(params(backbone=backbone, source=SOURCE | {"checkpoint": "other.safetensors"}))
        done = project.jebm("run", "import_backbone", "toy", "--variant", "joint")
        assert isinstance(done.exception, JebmError)
        assert message in str(done.exception)


def test_training_a_mixture_for_other_levels_is_refused(project):
    train = toy.params()["toy"]["train_backbone"] | {"kl_warmup": [[0.0, 0.5]]}
    project.write(params(backbone=with_levels(256), **{"toy/train_backbone": train, "toy/import_backbone": None}))
    done = project.jebm("run", "train_backbone", "toy", "--variant", "joint", "--seed", "1")
    assert str(done.exception) == (
        "toy.backbone.likelihood.levels: is 256, but the dataset 'digits' has 17 levels; set it to 17"
    )


def test_import_verb_writes_weights_and_prints_the_block(tmp_path):
    folder = Folder(tmp_path)
    checkpoint = saved(tmp_path, content())
    done = folder.jebm("import", "nvae", "checkpoint.pt", "--output", "new/converted.safetensors")
    assert done.exit_code == 0, done.output
    assert "every key of the file accounted for" in done.stdout
    assert "non-commercial" in done.stdout
    block = yaml.safe_load(done.stdout.split("For params.yaml:")[1])
    assert block["import_backbone"] == {"format": "jebm", "checkpoint": "new/converted.safetensors"}
    assert block["backbone"]["layers_per_scale"] == [2, 1]
    parse_params(toy.params({f"toy/{key}": value for key, value in block.items()}))
    assert read_tensors(tmp_path / "new" / "converted.safetensors")[0]["stem.weight"].shape == (4, 3, 3, 3)
    again = folder.jebm("import", "nvae", "checkpoint.pt", "--output", "new/converted.safetensors")
    assert "exists already" in str(again.exception)
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    command = (sys.executable, "-m", "jebm", "import", "nvae", "checkpoint.pt")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    broken = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    assert broken.stderr.count("\n") == 1
    assert not (tmp_path / "checkpoint.safetensors").exists()
