"""Assets known by their uncompressed content: plain, compressed otherwise, under another name, corrupt, and real."""

import bz2
import gzip
import hashlib
import lzma
from pathlib import Path

import archives
import numpy as np
import pytest

from jebm.config.assets import Asset
from jebm.config.read import read_params
from jebm.data.sources.mnist import Mnist
from jebm.errors import JebmError
from jebm.io.digests import DigestCache
from jebm.pipeline.assets import VerifiedAssets, inventory, refuse_wrong, remember

NAME = "mnist-train-images"


@pytest.fixture
def entries(tmp_path, monkeypatch):
    """Four small IDX files in place, and their entries with the digests of files and contents."""
    monkeypatch.chdir(tmp_path)
    made = archives.mnist(tmp_path, 12, 5)
    for entry in made.values():
        content = gzip.decompress(Path("assets", entry["file"]).read_bytes())
        entry["content"] = f"md5:{hashlib.md5(content).hexdigest()}"
    return {name: Asset(**entry) for name, entry in made.items()}


def images(entries):
    scratch = Path("scratch")
    scratch.mkdir()
    train = Mnist().open(VerifiedAssets(entries), scratch)["train"]
    return np.stack([np.asarray(train.read(i)) for i in range(train.count)])


WAYS = {
    "plain, under the published name": (lambda content: content, ".gz"),
    "plain": (lambda content: content, ""),
    "gzip of another level, with a time": (lambda content: gzip.compress(content, 1, mtime=7), ".gz"),
    "bzip2": (bz2.compress, ".bz2"),
    "xz": (lzma.compress, ".xz"),
}


@pytest.mark.parametrize("how", WAYS)
def test_content_is_what_counts(entries, how):
    convert, suffix = WAYS[how]
    place = entries[NAME].path
    content = convert(gzip.decompress(place.read_bytes()))
    place.unlink()
    other = place.with_suffix(suffix)
    other.write_bytes(content)
    assert entries[NAME].path == other
    refuse_wrong(entries, DigestCache())
    line = next(line for line in inventory(entries, DigestCache()).splitlines() if line.startswith(NAME))
    assert "in place" in line
    assert line.endswith(str(other))
    assert np.array_equal(images(entries), archives.pictures(12, 28, 28, 1, seed=21)[0][..., 0])


def test_other_content_is_refused_with_file_and_key(entries):
    place = entries[NAME].path
    place.write_bytes(gzip.compress(b"other"))
    with pytest.raises(JebmError, match=rf"{place}: not the asset .* is md5:\w{{32}}, assets.{NAME}.content is md5:"):
        refuse_wrong(entries, DigestCache())
    assert gzip.decompress(place.read_bytes()) == b"other"


@pytest.mark.parametrize("spoil", ["cut", "changed"])
def test_damaged_file_is_one_line_with_file_and_key(entries, spoil):
    place = entries[NAME].path
    raw = place.read_bytes()
    half = len(raw) // 2
    place.write_bytes(raw[:half] if spoil == "cut" else raw[:half] + bytes(64) + raw[half + 64 :])
    with pytest.raises(JebmError, match=rf"{place}: truncated or damaged.*assets\.{NAME}\.content: md5:") as error:
        VerifiedAssets(entries)(NAME)
    assert "\n" not in str(error.value)


def test_without_a_digest_of_the_content_only_the_published_file_is_accepted(entries):
    strict = entries[NAME].model_copy(update={"content": None})
    place = strict.path
    place.write_bytes(gzip.compress(gzip.decompress(place.read_bytes()), 1))
    with pytest.raises(JebmError, match=r"truncated|not the file"):
        refuse_wrong({NAME: strict}, DigestCache())


def test_missing_files_are_listed_with_their_place(entries):
    entries[NAME].path.unlink()
    assert entries[NAME].path == Path("assets", entries[NAME].file)
    listed = inventory(entries, DigestCache())
    assert f"missing             assets/{entries[NAME].file}" in listed
    assert "may also be plain (without .gz) or compressed by gzip, bzip2 or xz: mnist-train-images" in listed
    with pytest.raises(JebmError, match=r"put the file at .* plain or compressed, whose uncompressed content must"):
        VerifiedAssets(entries)(NAME)


def test_no_digest_is_remembered_where_the_content_is_known(entries):
    by_content = entries[NAME].model_copy(update={"digest": None})
    remember(by_content, DigestCache())
    assert not by_content.remembered.exists()


def test_real_mnist_is_what_the_parameters_say(request, monkeypatch, tmp_path):
    assets = read_params(request.config.rootpath / "params.yaml").assets
    monkeypatch.chdir(request.config.rootpath)
    entries = {name: assets[name] for name in Mnist().files["train"] + Mnist().files["test"]}
    if not all(entry.path.is_file() for entry in entries.values()):
        pytest.skip("the files of MNIST are not in assets/mnist; `jebm assets mnist` says where they go")
    splits = Mnist().open(VerifiedAssets(entries), tmp_path)
    counts = {name: np.bincount(split.labels).tolist() for name, split in splits.items()}
    assert counts["train"] == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert counts["test"] == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
