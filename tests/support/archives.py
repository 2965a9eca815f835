"""Tiny synthetic files in the on-disk formats of the image datasets: what the sources read, made in a moment.

Every maker of a dataset with assets writes below ``root/assets`` and returns overrides for the block ``assets`` of
params.yaml, ``{name: {file, url, bytes, digest}}``. Images are smooth, bounded away from black and white, and their
colour depends on the label.
"""

import gzip
import hashlib
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

CLASSES = 10


def pictures(count: int, height: int, width: int, channels: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (count, height, width, channels) and their labels (count,): each class equally often."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    y, x = np.linspace(0, np.pi, height)[:, None, None], np.linspace(0, np.pi, width)[None, :, None]
    images = np.empty((count, height, width, channels), np.uint8)
    for i, label in enumerate(labels):
        a, b, phase = rng.uniform(0.5, 2.0, 3 * channels).reshape(3, channels)
        wave = np.sin(a * x + phase) * np.cos(b * y + label / CLASSES * np.pi)
        base = 100 + 50 * np.cos(label + np.arange(channels))
        images[i] = np.clip(base + 50 * wave + rng.normal(0, 3, wave.shape), 1, 254)
    return images, labels


def asset(root: Path, file: str, content: bytes) -> dict:
    """Write an asset and return its entry."""
    path = root / "assets" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    digest = f"md5:{hashlib.md5(content).hexdigest()}"
    return {"file": file, "url": None, "bytes": len(content), "digest": digest}


def cifar10(root: Path, train: int = 50, test: int = 20) -> dict:
    """cifar-10-python.tar.gz: five pickled batches of ``train`` / 5 images, one of test images, and the class names."""
    images, labels = pictures(train + test, 32, 32)
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    bounds = [*np.linspace(0, train, 6).astype(int), train + test]
    members = {
        "batches.meta": {"label_names": [f"class {i}" for i in range(CLASSES)], "num_cases_per_batch": train // 5}
    }
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for name, start, end in zip(names, bounds, bounds[1:], strict=False):
        members[name] = {
            "batch_label": name,
            "labels": labels[start:end].tolist(),
            "data": rows[start:end],
            "filenames": [f"{i:05}.png" for i in range(start, end)],
        }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            payload = pickle.dumps(content, protocol=2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(payload)
            archive.addfile(member, io.BytesIO(payload))
    return {"cifar10": asset(root, "cifar10/cifar-10-python.tar.gz", buffer.getvalue())}


def svhn(root: Path, train: int = 50, test: int = 20, extra: int = 30) -> dict:
    """train_32x32.mat, test_32x32.mat, extra_32x32.mat: X (32, 32, 3, count), y (count, 1) with 10 for the digit 0."""
    entries = {}
    for seed, (name, count) in enumerate({"train": train, "test": test, "extra": extra}.items(), 1):
        images, labels = pictures(count, 32, 32, seed=seed)
        digits = np.where(labels == 0, 10, labels).astype(np.uint8)
        buffer = io.BytesIO()
        savemat(buffer, {"X": images.transpose(1, 2, 3, 0), "y": digits[:, None]}, do_compression=True)
        entries[f"svhn-{name}"] = asset(root, f"svhn/{name}_32x32.mat", buffer.getvalue())
    return entries


def celeba(root: Path, train: int = 30, validation: int = 10, test: int = 20) -> dict:
    """img_align_celeba.zip of 178×218 JPEGs, and list_eval_partition.txt."""
    images, _ = pictures(train + validation + test, 218, 178, seed=11)
    parts = np.repeat([0, 1, 2], [train, validation, test])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("img_align_celeba/", "")
        for i, image in enumerate(images, 1):
            archive.writestr(f"img_align_celeba/{i:06}.jpg", encoded(image, "JPEG"))
    lines = "".join(f"{i:06}.jpg {part}\r\n" for i, part in enumerate(parts, 1))
    return {
        "celeba-images": asset(root, "celeba/img_align_celeba.zip", buffer.getvalue()),
        "celeba-partition": asset(root, "celeba/list_eval_partition.txt", lines.encode()),
    }


def mnist(root: Path, train: int = 60, test: int = 20, name: str = "mnist") -> dict:
    """The four gzipped IDX files of MNIST, or of ``fashion-mnist``."""
    entries = {}
    for seed, (split, part, count) in enumerate([("train", "train", train), ("test", "t10k", test)], 21):
        images, labels = pictures(count, 28, 28, 1, seed=seed)
        for what, array in {"images": images[..., 0], "labels": labels.astype(np.uint8)}.items():
            shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = gzip.compress(bytes([0, 0, 8, array.ndim]) + shape + array.tobytes(), mtime=0)
            file = f"{name}/{part}-{what}-idx{array.ndim}-ubyte.gz"
            entries[f"{name}-{split}-{what}"] = asset(root, file, content)
    return entries


def lsun(path: Path, count: int = 20, height: int = 40, width: int = 48) -> Path:
    """A folder with an LMDB of WebP images, as LSUN comes; returns the folder."""
    import lmdb

    images, _ = pictures(count, height, width, seed=31)
    path.mkdir(parents=True)
    environment = lmdb.open(str(path), map_size=2**24)
    with environment.begin(write=True) as transaction:
        for image in images:
            content = encoded(image, "WEBP")
            transaction.put(hashlib.sha1(content).hexdigest().encode(), content)
    environment.close()
    return path


def folder(path: Path, count: int = 20, height: int = 40, width: int = 48, mode: str = "RGB") -> Path:
    """A folder of PNG files of a Pillow mode; returns it."""
    path.mkdir(parents=True, exist_ok=True)
    for name, content in _files(count, height, width, mode).items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content)
    return path


def zipped(path: Path, count: int = 20, height: int = 40, width: int = 48, mode: str = "RGB") -> Path:
    """The same pictures in one zip file; returns it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in _files(count, height, width, mode).items():
            archive.writestr(name, content)
    return path


def _files(count: int, height: int, width: int, mode: str) -> dict[str, bytes]:
    images, _ = pictures(count, height, width, seed=41)
    return {f"{i % 2}/{i:04}.png": encoded(image, "PNG", mode) for i, image in enumerate(images)}


def encoded(image: np.ndarray, format: str, mode: str = "RGB") -> bytes:
    """An RGB image (height, width, 3) as the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, format)
    return buffer.getvalue()
