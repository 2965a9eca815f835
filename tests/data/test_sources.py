"""Each source reads small files in the published format; where possible torchvision's readers are the reference."""

import gzip
import shutil
import zipfile

import archives
import numpy as np
import pytest
from torchvision.datasets import SVHN

from jebm.config.assets import Asset
from jebm.data.sources.celeba import CelebA
from jebm.data.sources.cifar10 import Cifar10
from jebm.data.sources.fashion_mnist import FashionMnist
from jebm.data.sources.folder import Folder
from jebm.data.sources.lsun import Lsun
from jebm.data.sources.mnist import Mnist
from jebm.data.sources.svhn import Svhn
from jebm.errors import JebmError
from jebm.pipeline.assets import VerifiedAssets


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def files(entries):
    return VerifiedAssets({name: Asset(**entry) for name, entry in entries.items()})


def opened(source, entries, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return source.open(files(entries), scratch)


def arrays(split):
    return np.stack([np.asarray(split.read(i)) for i in range(split.count)])


def test_cifar10_gives_the_images_that_were_written(tmp_path):
    splits = opened(Cifar10(), archives.cifar10(tmp_path, 50, 20), tmp_path)
    images, labels = archives.pictures(70, 32, 32)
    assert np.array_equal(arrays(splits["train"]), images[:50])
    assert np.array_equal(arrays(splits["test"]), images[50:])
    assert splits["train"].labels.tolist() == labels[:50].tolist()


def test_svhn_reads_in_parts_what_torchvision_reads_at_once(tmp_path, monkeypatch):
    splits = opened(Svhn(extra="svhn-extra"), archives.svhn(tmp_path, 12, 5, 7), tmp_path)
    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    parts = {name: SVHN("assets/svhn", name) for name in ("train", "test", "extra")}
    expected = np.concatenate([parts["train"].data, parts["extra"].data]).transpose(0, 2, 3, 1)
    assert np.array_equal(arrays(splits["train"]), expected)
    assert np.array_equal(arrays(splits["test"]), parts["test"].data.transpose(0, 2, 3, 1))
    assert splits["train"].labels.tolist() == [*parts["train"].labels, *parts["extra"].labels]
    assert splits["train"].name(12).endswith("extra_32x32.mat image 0")


def test_svhn_that_is_not_compressed_is_read_too(tmp_path):
    from scipy.io import savemat

    images, labels = archives.pictures(4, 32, 32)
    savemat("plain.mat", {"y": labels[:, None].astype(np.uint8), "X": images.transpose(1, 2, 3, 0)})
    content = (tmp_path / "plain.mat").read_bytes()
    entries = {f"svhn-{name}": archives.asset(tmp_path, f"svhn/{name}.mat", content) for name in ("train", "test")}
    assert np.array_equal(arrays(opened(Svhn(), entries, tmp_path)["test"]), images)


@pytest.mark.parametrize(("source", "name"), [(Mnist, "mnist"), (FashionMnist, "fashion-mnist")])
def test_idx_files_give_the_images_that_were_written(tmp_path, source, name):
    splits = opened(source(), archives.mnist(tmp_path, 12, 5, name), tmp_path)
    images, labels = archives.pictures(12, 28, 28, 1, seed=21)
    assert np.array_equal(arrays(splits["train"]), images[..., 0])
    assert splits["train"].labels.tolist() == labels.tolist()
    assert splits["test"].count == 5


def test_celeba_follows_the_published_partition(tmp_path):
    splits = opened(CelebA(), archives.celeba(tmp_path, 6, 2, 3), tmp_path)
    assert {name: split.count for name, split in splits.items()} == {"train": 6, "validation": 2, "test": 3}
    assert splits["validation"].name(0).endswith("img_align_celeba/000007.jpg")
    assert splits["test"].read(2).size == (178, 218)
    written = archives.pictures(11, 218, 178, seed=11)[0][6].astype(int)
    assert np.abs(np.asarray(splits["validation"].read(0)).astype(int) - written).mean() < 5  # JPEG


def test_folder_and_zip_have_the_same_images(tmp_path):
    here = Folder(path=str(archives.folder(tmp_path / "pictures"))).open(files({}), tmp_path)["train"]
    packed = Folder(path=str(archives.zipped(tmp_path / "pictures.zip"))).open(files({}), tmp_path)["train"]
    assert here.count == packed.count == 20
    assert np.array_equal(arrays(here), arrays(packed))
    assert here.name(0).endswith("pictures/0/0000.png")
    assert packed.name(0).endswith("pictures.zip: 0/0000.png")


def test_folder_without_images_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(JebmError, match=r"empty: holds no image; known suffixes: \.jpg"):
        Folder(path="empty").open(files({}), tmp_path)
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    with pytest.raises(JebmError, match=r"empty: holds no image \(1 other files\)"):
        Folder(path="empty").open(files({}), tmp_path)
    with pytest.raises(JebmError, match=r"dataset.source.path: there is no folder and no zip file 'nowhere'"):
        Folder(path="nowhere").open(files({}), tmp_path)


def test_lsun_is_read_without_leaving_a_trace(tmp_path):
    path = archives.lsun(tmp_path / "church_train_lmdb", 6)
    before = {file.name: file.stat().st_mtime_ns for file in path.iterdir()}
    split = Lsun(path=str(path)).open(files({}), tmp_path)["train"]
    assert split.count == 6
    assert {split.read(i).size for i in range(6)} == {(48, 40)}
    assert {file.name: file.stat().st_mtime_ns for file in path.iterdir()} == before
    with pytest.raises(JebmError, match=r"there is no data.mdb in it"):
        Lsun(path=str(tmp_path)).open(files({}), tmp_path)


def spoilt(root, entries, name, spoil):
    """The entries of the assets, after one file was changed and its new size and digest were entered."""
    path = root / "assets" / entries[name]["file"]
    return {**entries, name: archives.asset(root, entries[name]["file"], spoil(path.read_bytes()))}


CUT = {
    "cifar10": (Cifar10, archives.cifar10, "cifar10"),
    "svhn": (Svhn, archives.svhn, "svhn-test"),
    "mnist images": (Mnist, archives.mnist, "mnist-train-images"),
    "mnist labels": (Mnist, archives.mnist, "mnist-test-labels"),
    "celeba": (CelebA, archives.celeba, "celeba-images"),
    "celeba partition": (CelebA, archives.celeba, "celeba-partition"),
}


DAMAGED = [(which, how) for which in CUT for how in ("cut", "other") if (which, how) != ("celeba partition", "cut")]
"""Half of a list is a list."""


@pytest.mark.parametrize(("which", "how"), DAMAGED)
def test_damaged_archive_is_one_sentence_that_names_it(tmp_path, which, how):
    source, make, name = CUT[which]
    spoil = {"cut": lambda content: content[: len(content) // 2], "other": lambda content: b"no archive" * 40}[how]
    entries = spoilt(tmp_path, make(tmp_path), name, spoil)
    with pytest.raises(JebmError, match="damaged, or not") as error:
        opened(source(), entries, tmp_path)
    assert entries[name]["file"] in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_digest_is_found_before_anything_is_read(tmp_path):
    entries = archives.cifar10(tmp_path)
    entries["cifar10"] = {**entries["cifar10"], "digest": "md5:" + "0" * 32}
    with pytest.raises(JebmError, match=r"its digest is md5:\w{32}, expected is md5:0{32}"):
        opened(Cifar10(), entries, tmp_path)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_labels_of_other_images_are_refused(tmp_path):
    entries = archives.mnist(tmp_path, 12, 5)
    entries["mnist-train-labels"] = {**entries["mnist-test-labels"]}
    with pytest.raises(JebmError, match="12 images and 5 labels"):
        opened(Mnist(), entries, tmp_path)


def test_celeba_zip_that_lacks_an_image_is_refused(tmp_path):
    entries = archives.celeba(tmp_path, 4, 2, 2)
    path = tmp_path / "assets/celeba/img_align_celeba.zip"
    shutil.move(path, "whole.zip")
    with zipfile.ZipFile("whole.zip") as whole, zipfile.ZipFile(path, "w") as part:
        for name in whole.namelist()[:-1]:
            part.writestr(name, whole.read(name))
    entries["celeba-images"] = archives.asset(tmp_path, "celeba/img_align_celeba.zip", path.read_bytes())
    with pytest.raises(JebmError, match=r"img_align_celeba/000008.jpg is missing"):
        opened(CelebA(), entries, tmp_path)


def test_maker_writes_the_published_header_of_idx(tmp_path):
    archives.mnist(tmp_path, 12, 5)
    header = gzip.decompress((tmp_path / "assets/mnist/train-images-idx3-ubyte.gz").read_bytes())[:16]
    assert header == bytes([0, 0, 8, 3, 0, 0, 0, 12, 0, 0, 0, 28, 0, 0, 0, 28])
