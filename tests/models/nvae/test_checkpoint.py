"""Published checkpoints are read completely and without executing code, or refused in one sentence."""

import argparse
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from published_nvae import content, model, saved, to_published

from jebm.errors import JebmError
from jebm.io.tensors import write_tensors
from jebm.models.backbones.nvae.hierarchy import NvaeHierarchy
from jebm.models.checkpoints.base import read_imported, write_imported
from jebm.models.checkpoints.nvae import read_checkpoint, report
from jebm.models.checkpoints.nvae_keys import ALIAS


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "the older format"])
def test_what_was_written_is_what_is_read(tmp_path, zipped):
    hierarchy = model()
    imported = read_checkpoint(saved(tmp_path, content(hierarchy), _use_new_zipfile_serialization=zipped))
    state = hierarchy.state_dict()
    assert list(imported.weights) == list(state)
    assert all(torch.equal(imported.weights[key], state[key]) for key in state)
    assert imported.name == "nvae"
    assert imported.image_shape == (3, 8, 8)
    assert imported.backbone["layers_per_scale"] == [2, 1]
    assert imported.backbone["likelihood"] == {"name": "nvae-logistic-mixture", "levels": 32, "components": 2}
    assert imported.facts["levels"] == 32
    assert imported.facts["epoch"] == 7
    assert "non-commercial" in imported.facts["licence"]
    again = NvaeHierarchy(imported.image_shape, **imported.backbone)
    again.load_state_dict(imported.weights)
    assert all(torch.equal(a, b) for a, b in zip(to_published(again).values(), to_published(hierarchy).values()))  # noqa: B905


def test_report_counts_what_is_there(tmp_path):
    text = report(read_checkpoint(saved(tmp_path, content())))
    assert f"{sum(p.numel() for p in model().parameters()):,} in " in text
    assert "3 of 2 channels, at 2 scales, layers per scale [2, 1] (finest first)" in text
    assert "nvae-logistic-mixture, levels 32, components 2" in text


def test_old_files_lack_the_second_names(tmp_path):
    old = content()
    old["state_dict"] = {key: value for key, value in old["state_dict"].items() if not key.endswith(ALIAS)}
    assert len(old["state_dict"]) < len(content()["state_dict"])
    whole = read_checkpoint(saved(tmp_path, content()))
    assert list(read_checkpoint(saved(tmp_path, old)).weights) == list(whole.weights)


def test_second_name_of_another_weight_is_refused(tmp_path):
    odd = content()
    key = next(key for key in odd["state_dict"] if key.endswith(ALIAS))
    odd["state_dict"][key] = odd["state_dict"][key] + 1
    with pytest.raises(JebmError, match=r"two names of one weight, but differ"):
        read_checkpoint(saved(tmp_path, odd))


def test_half_precision_becomes_single(tmp_path):
    half = content()
    half["state_dict"] = {k: v.half() if v.is_floating_point() else v for k, v in half["state_dict"].items()}
    assert read_checkpoint(saved(tmp_path, half)).weights["stem.weight"].dtype == torch.float32


def without(key):
    def change(what):
        del what["state_dict"][key]

    return change


def with_value(key, value):
    def change(what):
        what["state_dict"][key] = value

    return change


def with_setting(**settings):
    def change(what):
        what["args"] = argparse.Namespace(**(vars(what["args"]) | settings))

    return change


BAD = {
    "missing key": (without("stem.bias"), r"missing stem\.bias$"),
    "extra key": (with_value("stem.shift", torch.ones(1)), r"unknown stem\.shift$"),
    "another shape": (with_value("stem.bias", torch.ones(3)), r"wrong stem\.bias is \[3\] instead of \[4\]$"),
    "NaN": (with_value("stem.bias", torch.tensor([0.0, 1.0, float("nan"), 0.0])), r"not finite: stem\.bias$"),
    "no tensor": (with_value("stem.bias", [1.0]), "something else than tensors: stem.bias"),
    "settings of another architecture": (
        with_setting(num_cell_per_cond_enc=2),
        r"architecture in its settings: missing enc_tower\.1\._ops.* and \d+ more; unknown .*wrong ",
    ),
    "another width": (with_setting(num_channels_dec=8), r"wrong prior_ftr0 is \[24, 2, 2\] instead of \[32, 2, 2\]"),
    "setting of the wrong type": (with_setting(num_nf="1"), "its setting num_nf is '1'"),
    "images that can't be halved": (with_setting(dataset="imagenet_10"), "multiple of 4, not 10"),
    "no settings": (lambda what: what.pop("args"), "not an NVAE checkpoint: it has no args"),
    "settings that are none": (lambda what: what.update(args={}), "args must be a Namespace"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path, name):
    change, message = BAD[name]
    what = content()
    change(what)
    path = saved(tmp_path, what)
    with pytest.raises(JebmError, match=message) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


class Hostile:
    """Runs a command when an unrestricted unpickler reads it."""

    def __init__(self, trap):
        self.trap = trap

    def __reduce__(self):
        return os.mkdir, (str(self.trap),)


@pytest.mark.parametrize("where", ["args", "state_dict", "optimizer"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, where, zipped):
    trap = tmp_path / "trap"
    path = saved(tmp_path, content() | {where: Hostile(trap)}, _use_new_zipfile_serialization=zipped)
    with pytest.raises(JebmError, match=r"holds code .*mkdir.* none of it was run"):
        read_checkpoint(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists()  # so that the test can fail


def test_plain_pickle_is_refused_and_not_run(tmp_path):
    trap, path = tmp_path / "trap", tmp_path / "checkpoint.pt"
    path.write_bytes(pickle.dumps({"args": Hostile(trap)}))
    with pytest.raises(JebmError, match=r"checkpoint\.pt: "):
        read_checkpoint(path)
    assert not trap.exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, -1])
def test_truncated_files_are_refused(tmp_path, keep):
    path = saved(tmp_path, content())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(JebmError, match="not a checkpoint of PyTorch, or a damaged one"):
        read_checkpoint(path)


def test_other_files_are_refused(tmp_path):
    text, other, archive = tmp_path / "text.pt", saved(tmp_path, [1, 2]), tmp_path / "a.zip"
    text.write_text("no checkpoint")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", "b")
    with pytest.raises(JebmError, match="it has no state_dict and no args"):
        read_checkpoint(other)
    for path in (text, archive):
        with pytest.raises(JebmError, match="not a checkpoint of PyTorch"):
            read_checkpoint(path)
    with pytest.raises(JebmError, match="no such file"):
        read_checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(JebmError, match="can't be read: Is a directory"):
        read_checkpoint(tmp_path)


def test_converted_file_holds_the_same(tmp_path):
    imported = read_checkpoint(saved(tmp_path, content()))
    path = tmp_path / "weights.safetensors"
    write_imported(path, imported)
    again = read_imported(path)
    assert (again.name, again.image_shape, again.backbone) == ("nvae", (3, 8, 8), imported.backbone)
    assert again.facts == imported.facts
    assert all(torch.equal(again.weights[key], value) for key, value in imported.weights.items())
    assert b"args" not in path.read_bytes()[:200]


def test_converted_file_that_does_not_fit_its_header_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    imported = read_checkpoint(saved(tmp_path, content()))
    weights = dict(imported.weights)
    write_imported(path, imported._replace(weights=weights | {"stem.bias": torch.full((4,), float("inf"))}))
    with pytest.raises(JebmError, match=r"not finite: stem\.bias"):
        read_imported(path)
    del weights["stem.bias"]
    write_imported(path, imported._replace(weights=weights))
    with pytest.raises(JebmError, match=r"missing stem\.bias$"):
        read_imported(path)
    for header in ({}, {"spec": {"backbone": {"name": "nvae", "layers_per_scale": "many"}}, "image_shape": [3, 8, 8]}):
        write_tensors(path, weights, header)
        with pytest.raises(JebmError, match="no imported backbone"):
            read_imported(path)


def test_excerpt_of_the_published_layout_is_the_one_that_is_written():
    """The keys that are written are those that published lists have, in their order (see test_published_keys)."""
    recipes = json.loads((Path(__file__).parent / "published_keys.json").read_text(encoding="utf-8"))
    tiny = recipes["nvae_celeba64"]["args"] | {"num_channels_enc": 4, "num_channels_dec": 4, "num_groups_per_scale": 4}
    written = to_published(model(**tiny))
    assert list(written)[:3] == ["prior_ftr0", "stem.weight", "stem.bias"]
    assert list(written)[-1] == "image_conditional.1.log_weight_norm"
    for key, value in written.items():
        if key.endswith(ALIAS):
            assert value.data_ptr() == written[key.removesuffix(ALIAS) + "weight"].data_ptr()
