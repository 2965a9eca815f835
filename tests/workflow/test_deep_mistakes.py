"""What is wrong with a deep study ends in one sentence through Snakemake, and nothing is lost or left half-written."""

import copy
import pickle
import re

import pytest
import torch
from smoke import prepare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROWS = ("gaussian", "ours-k40")


@pytest.fixture(scope="module")
def church(new_copy, tmp_path_factory):
    """The study of churches in smoke size with two variants, its data prepared, and its checkpoint."""
    space = new_copy(tmp_path_factory.mktemp("church"))
    prepare(space, "church64")
    params = space.params()
    params["runtime"] = {"fork_server": False}
    block = params["church64"]
    block["variants"] = {name: block["variants"][name] for name in ROWS}
    block["headline"], block["tables"], block["figures"] = {}, {}, {"samples": list(ROWS)}
    space.write_params(params)
    space.run("jebm", "run", "prepare_dataset", "church64", "--variant", "gaussian")
    space.checkpoint = space.folder / params["assets"]["nvae-church64"]["file"].join(("assets/", ""))
    space.good, space.whole = params, space.checkpoint.read_bytes()
    return space


@pytest.fixture
def study(church):
    """The study as it was, whatever the test before did to it."""
    church.write_params(church.good)
    church.checkpoint.write_bytes(church.whole)
    church.checkpoint.with_name("church64.pt.sha256").unlink(missing_ok=True)  # the first file that was seen
    return church


def changed(space, **blocks):
    """Lay values over blocks of the study."""
    params = copy.deepcopy(space.good)
    for key, value in blocks.items():
        block = params["church64"].setdefault(key, {})
        params["church64"][key] = {**block, **value} if value is not None else None
    space.write_params(params)


def sentence(space, *needles):
    """Run the study; the one line that the job says, and that is repeated at the end, must hold all needles."""
    done = space.run("snakemake", "--cores", "1", "church64", check=False)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert "MissingInputException" not in said
    lines = {line.strip() for line in said.splitlines() if needles[0] in line and "shell" not in line}
    ends = {line for line in lines if "(log: " in line}  # after the job's name, and with its log
    assert len(ends) <= 1, said
    assert len(lines - ends) == 1, said
    line = (lines - ends).pop()
    assert all(line.removeprefix("error: ") in end for end in ends)
    assert all(re.search(needle, line) for needle in needles[1:]), line
    assert not list(space.folder.glob("runs/import_backbone/*/weights.safetensors"))
    assert not list(space.folder.glob("runs/train_backbone/*/seed1/weights.safetensors"))


def test_missing_checkpoint(study):
    study.checkpoint.unlink()
    sentence(study, "nvae-church64' is missing", r"assets/nvae/church64\.pt", "docs/deep.md", "non-commercial")


def test_missing_checkpoint_by_its_path(study):
    changed(study, import_backbone={"asset": None, "checkpoint": "elsewhere/checkpoint.pt"})
    sentence(study, "import_backbone.checkpoint: there is no file", "elsewhere/checkpoint.pt", "docs/deep.md")


def test_truncated_checkpoint(study):
    study.checkpoint.write_bytes(study.whole[: len(study.whole) // 2])
    sentence(study, "not a checkpoint of PyTorch, or a damaged one", r"church64\.pt")


class Hostile:
    def __reduce__(self):
        return (open, ("pwned", "w"))


def test_hostile_checkpoint_is_not_run(study):
    torch.save({"state_dict": Hostile()}, study.checkpoint, pickle_module=pickle)
    sentence(study, "holds code", "none of it was run")
    assert not (study.folder / "pwned").exists()


def test_checkpoint_of_another_architecture(study):
    changed(study, backbone={"encoder_channels": 6})
    sentence(study, "backbone: encoder_channels is 6, the checkpoint has 4")


def test_data_of_another_size(study):
    changed(study, dataset={"size": 24})
    sentence(study, "church64.dataset: has images of shape [3, 24, 24], the checkpoint is for [3, 32, 32]")


STAGE_1 = {"steps": 4, "batch_size": 10, "learning_rate": 1.0e-3, "kl_warmup": [[0.0, 0.5]]}


def test_groups_that_do_not_fit_the_images(study):
    changed(study, dataset={"size": 36}, import_backbone=None, train_backbone=STAGE_1)
    sentence(study, "backbone.layers_per_scale: 3 scales after 1 halvings", "multiple of 8, not 36")


@pytest.mark.parametrize(
    ("compute", "needles"),
    [
        ({"devices": 3}, ["compute.devices: is 3, but train_prior.batch_size is 10"]),
        ({"device": "cuda:1", "devices": 2}, ["compute.devices: is 2, but 'cuda:1' is one device"]),
    ],
)
def test_impossible_devices(study, compute, needles):
    changed(study, compute=compute)
    sentence(study, *needles)


@pytest.mark.skipif(torch.cuda.device_count() > 2, reason="there are as many")
def test_more_gpus_than_there_are(study):
    changed(study, compute={"device": "cuda", "devices": 5}, import_backbone=None, train_backbone=STAGE_1)
    sentence(study, "compute.device", "finds no GPU|this machine offers")
