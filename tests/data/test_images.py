"""The dataset `images`: conversion of all kinds of files, splits, streaming, and refused input."""

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import archives
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from safetensors import safe_open

from jebm.config.assets import Asset
from jebm.config.components import schema
from jebm.config.types import SourceBlock
from jebm.data.dataset import load_dataset, save_dataset
from jebm.data.image_conversion import Conversion, refuse_wide
from jebm.data.images import Images
from jebm.data.stream import StreamedSplit, write_splits
from jebm.errors import JebmError
from jebm.pipeline.assets import VerifiedAssets

RAMP = (np.arange(48 * 40 * 3) % 240).astype(np.uint8).reshape(40, 48, 3)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def conversion(**changes):
    keep = {
        "channels": 3,
        "size": 8,
        "crop": None,
        "resample": "box",
        "upscale": False,
        "background": "white",
        "bits": 8,
    }
    return Conversion(**{**keep, **changes})


def reopened(image, format="PNG"):
    """An image opened from a file, with its raw mode and not yet decoded."""
    buffer = io.BytesIO()
    image.save(buffer, format)
    return Image.open(io.BytesIO(buffer.getvalue()))


# Conversion of one image


def test_centre_square_is_cut_out_and_box_averages_it():
    array = conversion(size=8, crop=16)(Image.fromarray(RAMP), "x")
    square = RAMP[12:28, 16:32].astype(float)
    expected = square.reshape(8, 2, 8, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert array.shape == (3, 8, 8)
    assert np.abs(array - expected).max() <= 1  # rounded after each direction


def test_largest_square_is_the_default_and_the_same_size_changes_nothing():
    assert np.array_equal(conversion(size=40)(Image.fromarray(RAMP), "x"), RAMP[:, 4:44].transpose(2, 0, 1))


def test_five_bits_keep_the_highest_ones():
    array = conversion(size=40, bits=5)(Image.fromarray(RAMP), "x")
    assert np.array_equal(array, RAMP[:, 4:44].transpose(2, 0, 1) // 8)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "YCbCr"])
def test_other_modes_become_their_colours(mode):
    image = Image.fromarray(RAMP).convert(mode)
    array = conversion(size=40)(image, "x")
    expected = np.asarray(image.convert("RGB"))[:, 4:44].transpose(2, 0, 1)
    assert np.array_equal(array, expected)


def test_grey_is_the_luma_of_colours():
    grey = conversion(size=40, channels=1)(Image.fromarray(RAMP), "x")
    luma = RAMP[:, 4:44].astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(grey[0] - luma).max() <= 1


@pytest.mark.parametrize(("background", "colour"), [("white", 255), ("black", 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_show_the_background_and_not_what_is_hidden(mode, background, colour):
    image = Image.new("RGBA", (8, 8), (40, 40, 40, 0))
    image.paste((40, 40, 40, 255), (0, 0, 4, 8))
    array = conversion(background=background)(reopened(image.convert(mode)), "x")
    assert (array[:, :, :4] == 40).all()
    assert (array[:, :, 4:] == colour).all()


def test_transparent_colour_of_a_palette_shows_the_background():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 9, 9, 9])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=1)
    assert (conversion()(Image.open(buffer), "x") == 255).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_rounded(format):
    wide = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    array = conversion(channels=1)(reopened(Image.fromarray(wide), format), "x")
    assert np.array_equal(array[0], np.rint(wide / 257).astype(np.uint8))


def test_sixteen_bit_colours_are_refused():
    """Pillow reads such files and drops half of each value. It can't write them, so the bytes are given here."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = (b"\0" + bytes(8 * 6)) * 8
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path = Path("pictures")
    path.mkdir()
    (path / "deep.png").write_bytes(png)
    for name in ("a.png", "b.png"):
        (path / name).write_bytes(archives.encoded(RAMP, "PNG"))
    with pytest.raises(JebmError, match=r"deep.png: has 16 bits per channel"):
        prepared(folder("pictures", test_count=1, validation_count=1, size=8))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_of_an_unknown_range_are_refused(dtype):
    with pytest.raises(JebmError, match=r"photo.tif: has 32-bit values"):
        refuse_wide(reopened(Image.fromarray(np.ones((8, 8), dtype)), "TIFF"), "photo.tif")


def test_orientation_of_a_camera_is_followed():
    image = Image.fromarray(RAMP[:40, :40])
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    turned = conversion(size=40)(Image.open(buffer), "x")
    assert np.array_equal(turned, RAMP[:40, :40].transpose(2, 0, 1)[:, ::-1, ::-1])


def test_small_images_are_refused_or_enlarged():
    image = Image.fromarray(RAMP)
    with pytest.raises(JebmError, match=r"x: a square of 40 pixels is smaller than dataset.size: 64"):
        conversion(size=64)(image, "x")
    assert conversion(size=64, upscale=True)(image, "x").shape == (3, 64, 64)
    with pytest.raises(JebmError, match=r"x: has 48×40 pixels, fewer than dataset.crop: 44 takes out"):
        conversion(crop=44)(image, "x")


# The splits


def source(**block):
    return TypeAdapter(schema(SourceBlock.kind)).validate_python(block)


def folder(path, **settings):
    return Images(source=source(name="folder", path=str(path)), **{"size": 16, **settings})


def prepared(images, entries=None, to="data/set"):
    files = VerifiedAssets({name: Asset(**entry) for name, entry in (entries or {}).items()})
    with TemporaryDirectory(dir=".") as scratch:
        splits, levels, facts = images.prepare(files, Path(scratch))
        save_dataset(Path(to), splits, levels, facts, Path(scratch))
    return load_dataset(Path(to))


def keys(images):
    """Each image as bytes, which can be elements of a set."""
    return [bytes(image.numpy().tobytes()) for image in images]


def test_unsplit_source_is_divided_without_overlap_and_without_loss(tmp_path):
    archives.folder(tmp_path / "pictures", 20)
    data = prepared(folder("pictures", validation_count=3, test_count=5))
    parts = {name: keys(data.images(name)) for name in ("train", "validation", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 12, "validation": 3, "test": 5}
    assert len(set().union(*parts.values())) == 20
    again = prepared(folder("pictures", validation_count=3, test_count=5), to="data/again")
    assert again.manifest == data.manifest
    other = prepared(folder("pictures", validation_count=3, test_count=5, split_seed=1), to="data/other")
    assert keys(other.images("test")) != parts["test"]


def test_labels_stay_with_their_images(tmp_path):
    entries = archives.cifar10(tmp_path, 50, 20)
    data = prepared(Images(source=source(name="cifar10"), size=32, validation_count=10), entries)
    images, labels = archives.pictures(70, 32, 32)
    known = dict(zip(keys(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()), labels.tolist(), strict=True))
    for split, count in {"train": 40, "validation": 10, "test": 20}.items():
        assert [known[key] for key in keys(data.images(split))] == data.labels(split).tolist()
        assert len(data.labels(split)) == count
    assert data.manifest["classes"] == 10
    assert keys(data.images("test")) == keys(torch.from_numpy(images[50:]).permute(0, 3, 1, 2).contiguous())


def test_own_validation_split_is_taken(tmp_path):
    entries = archives.celeba(tmp_path, 6, 4, 3)
    whole = Images(source=source(name="celeba"), size=64, crop=140, validation_count=None)
    assert prepared(whole, entries).manifest["counts"] == {"train": 6, "validation": 4, "test": 3}
    part = Images(source=source(name="celeba"), size=64, validation_count=2, train_count=5, test_count=1)
    assert prepared(part, entries, "data/part").manifest["counts"] == {"train": 5, "validation": 2, "test": 1}


def test_anomaly_protocol_pools_and_holds_one_class_out(tmp_path):
    entries = archives.mnist(tmp_path, 70, 30)
    images = Images(source=source(name="mnist"), size=28, validation_count=8, held_out_class=4)
    data = prepared(images, entries)
    assert data.manifest["counts"] == {"train": 64, "validation": 8, "test": 18, "ood/held-out": 10}
    for split in ("train", "validation", "test"):
        assert 4 not in data.labels(split)
    everything = [key for split in data.manifest["counts"] for key in keys(data.images(split))]
    assert len(set(everything)) == 100
    archives.folder(tmp_path / "pictures")
    with pytest.raises(JebmError, match=r"dataset.held_out_class: the source has no images of class 3"):
        prepared(folder("pictures", held_out_class=3), to="data/none")


def test_outlier_sets_have_the_shape_and_the_levels_of_the_data(tmp_path):
    entries = archives.mnist(tmp_path, 20, 10) | archives.cifar10(tmp_path, 50, 20)
    images = Images(
        source=source(name="mnist"),
        size=28,
        validation_count=2,
        bits=5,
        ood_sets=["uniform", "constant"],
        outliers={"cifar": source(name="cifar10")},
        ood_count=300,
    )
    data = prepared(images, entries)
    assert data.levels == 32
    assert sorted(data.ood_sets) == ["cifar", "constant", "uniform"]
    assert data.images("ood/cifar").shape == (20, 1, 28, 28)
    assert data.images("ood/uniform").shape == (300, 1, 28, 28)
    constant = data.images("ood/constant")
    assert (constant == constant[:, :, :1, :1]).all()
    assert len(constant[:, 0, 0, 0].unique()) > 25
    histogram = torch.bincount(data.images("ood/uniform").flatten().long(), minlength=32).double()
    assert len(histogram) == 32
    assert (histogram / histogram.mean() - 1).abs().max() < 0.1


def test_preparing_twice_writes_the_same_bytes(tmp_path):
    entries = archives.svhn(tmp_path, 20, 10, 5)
    for to in ("data/a", "data/b"):
        images = Images(source=source(name="svhn"), size=32, validation_count=4, ood_sets=["uniform"], ood_count=9)
        prepared(images, entries, to)
    assert Path("data/a/images.safetensors").read_bytes() == Path("data/b/images.safetensors").read_bytes()


# Bad input


def test_unreadable_images_are_named_and_skipped_up_to_the_share(tmp_path):
    path = archives.folder(tmp_path / "pictures", 20)
    for name, content in {"0/0004.png": b"", "1/0007.png": (path / "1/0007.png").read_bytes()[:-40]}.items():
        (path / name).write_bytes(content)
    settings = {"validation_count": 4, "test_count": 4, "max_unreadable_fraction": 0.1}
    data = prepared(folder("pictures", **settings))
    assert sorted(Path(name).name for name in data.manifest["skipped"]) == ["0004.png", "0007.png"]
    assert sum(data.manifest["counts"].values()) == 18
    with pytest.raises(JebmError) as error:
        prepared(folder("pictures", **settings | {"max_unreadable_fraction": 0.05}), to="data/strict")
    assert "2 of 20 images are unreadable so far, more than dataset.max_unreadable_fraction: 0.05" in str(error.value)
    assert "0004.png" in str(error.value)
    assert "0007.png" in str(error.value)
    again = prepared(folder("pictures", **settings), to="data/again")
    assert again.manifest == data.manifest  # reasons contain no memory addresses
    assert "unknown image format" in data.manifest["skipped"].values()
    assert not Path("data/strict").exists()  # no partial files


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_count": 5}, r"dataset.validation_count: 1000 of 15 images that are left would leave none to train on"),
        ({"validation_count": 5, "test_count": 15}, r"dataset.validation_count: 5 of 5 images that are left"),
        ({"validation_count": 5}, r"dataset.test_count: the source has no test split of its own; give the number"),
    ],
)
def test_too_few_images_for_the_splits(tmp_path, settings, message):
    archives.folder(tmp_path / "pictures", 20)
    with pytest.raises(JebmError, match=message):
        prepared(folder("pictures", **settings))


def test_more_test_images_than_there_are(tmp_path):
    entries = archives.cifar10(tmp_path, 50, 20)
    images = Images(source=source(name="cifar10"), size=32, validation_count=10, test_count=21)
    with pytest.raises(JebmError, match=r"dataset.test_count: is 21, but the source's test split has 20 images"):
        prepared(images, entries)


def test_image_that_is_too_small_leaves_no_files(tmp_path):
    path = archives.folder(tmp_path / "pictures", 20)
    (path / "1" / "0019.png").write_bytes(archives.encoded(RAMP[:10, :10], "PNG"))
    with pytest.raises(JebmError, match=r"0019.png: a square of 10 pixels is smaller"):
        prepared(folder("pictures", validation_count=4, test_count=4))
    assert not Path("data/set").exists()


# Streaming


def test_streamed_file_is_a_safetensors_file_like_any_other(tmp_path):
    images = torch.randint(256, (700, 3, 4, 4), dtype=torch.uint8).numpy()
    labels = np.arange(700)
    rows = {
        "train": StreamedSplit(700, lambda: iter([(images[:256], labels[:256]), (images[256:], labels[256:])])),
        "ood/a": StreamedSplit(9, lambda: iter([(images[:9], None)])),
    }
    write_splits(tmp_path / "x.safetensors", rows, {"levels": 256}, tmp_path)
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        assert sorted(file.keys()) == ["ood/a", "train", "train_labels"]
        assert np.array_equal(file.get_tensor("train"), images)
        assert np.array_equal(file.get_tensor("train_labels"), labels)
        assert np.array_equal(file.get_tensor("ood/a"), images[:9])
        assert json.loads(file.metadata()["jebm"]) == {"levels": 256}


def test_memory_does_not_grow_with_the_set(tmp_path):
    """A set of 300 MB is written and read by a process whose memory is limited to a part of it."""
    program = """
import resource, sys
import numpy as np
from pathlib import Path
from jebm.data.dataset import load_dataset, save_dataset
from jebm.data.batches import Pixels
from jebm.data.stream import StreamedSplit
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def chunks():
    for i in range(100):
        yield np.full((256, 3, 64, 64), i, np.uint8), None
save_dataset(Path("big"), {"train": StreamedSplit(25600, chunks)}, 256, {}, Path())
written = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = load_dataset(Path("big"))
pixels = Pixels(data.images("train"), data.levels)
values = pixels[slice(256 * 99, 256 * 99 + 2)].unique()
assert len(values) == 1 and abs(values.item() - (99 * 2 / 255 - 1)) < 1e-6
read = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((written - before) // 1024, (read - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=None)
    assert done.returncode == 0, done.stderr
    written, read = map(int, done.stdout.split())
    assert written < 100
    assert read < 100
