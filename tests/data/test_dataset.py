"""Prepared datasets on disk, and the conversion between levels and pixels."""

import json

import pytest
import torch

from jebm.data.dataset import load_dataset, quantise, save_dataset, to_pixels
from jebm.errors import JebmError
from jebm.runtime.random import make_rng


@pytest.mark.parametrize("levels", [2, 3, 16, 17, 32, 256])
def test_every_level_survives_the_way_to_pixels_and_back(levels):
    images = torch.arange(levels, dtype=torch.uint8)
    pixels = to_pixels(images, levels)
    assert torch.equal(quantise(pixels, levels), images)
    assert pixels[0] == -1
    assert pixels[-1] == 1


def test_quantise_takes_the_nearest_level_and_clamps():
    pixels = torch.tensor([-3.0, -1.0, -1 + 0.9 / 16, -1 + 1.1 / 16, 0.0, 1.0, 7.0])
    assert quantise(pixels, 17).tolist() == [0, 0, 0, 1, 8, 16, 16]


@pytest.fixture
def folder(tmp_path):
    rng = make_rng("dataset")
    tensors = {
        "train": torch.randint(17, (5, 1, 8, 8), generator=rng, dtype=torch.uint8),
        "train_labels": torch.arange(5),
        "test": torch.randint(17, (3, 1, 8, 8), generator=rng, dtype=torch.uint8),
        "ood/constant": torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
    }
    save_dataset(tmp_path / "set", tensors, 17, {"source": "test"})
    return tmp_path / "set"


def test_dataset_comes_back_with_its_manifest(folder):
    data = load_dataset(folder)
    assert data.levels == 17
    assert data.image_shape == (1, 8, 8)
    assert data.ood_sets == ["constant"]
    assert data.manifest["counts"] == {"train": 5, "test": 3, "ood/constant": 2}
    assert data.manifest["source"] == "test"
    assert data.labels("train").tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(quantise(data.pixels("test"), 17), data.images("test"))


def test_images_of_another_manifest_are_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["images.safetensors"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(JebmError, match=r"images.safetensors: sha256 is \w{12}…, the manifest says 000000000000…"):
        load_dataset(folder)


def test_changed_images_are_refused(folder):
    path = folder / "images.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(JebmError, match="the manifest says"):
        load_dataset(folder)


@pytest.mark.parametrize("name", ["images.safetensors", "manifest.json"])
def test_missing_file_names_the_command_that_makes_it(folder, name):
    (folder / name).unlink()
    with pytest.raises(JebmError, match=rf"{name}: no such file; `snakemake .*{name}` makes it"):
        load_dataset(folder)


@pytest.mark.parametrize("content", ["{}", "[]", '{"sha256": {}}', '{"sha256": null}'])
def test_incomplete_manifest_is_refused(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(JebmError, match=r"manifest\.json"):
        load_dataset(folder)


def test_manifest_that_is_no_json_is_refused(folder):
    (folder / "manifest.json").write_text("{")
    with pytest.raises(JebmError, match=r"manifest\.json: not a JSON file"):
        load_dataset(folder)


def test_preparing_twice_writes_the_same_bytes(folder, tmp_path):
    data = load_dataset(folder)
    save_dataset(tmp_path / "again", data.tensors, 17, {"source": "test"})
    for name in ("images.safetensors", "manifest.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
