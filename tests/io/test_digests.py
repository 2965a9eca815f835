"""Digests of files and folders depend on names and contents, and are cached until a file is written to."""

import hashlib
import os

import pytest

from jebm.io import digests as module
from jebm.io.digests import DigestCache, folder_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures" / "below").mkdir(parents=True)
    (tmp_path / "pictures" / "a.png").write_bytes(b"a")
    (tmp_path / "pictures" / "below" / "b.png").write_bytes(b"b")
    return tmp_path / "pictures"


def fresh():
    """The digest of the folder by the cache on disk, and the number of bytes that were hashed."""
    cache = DigestCache()
    found = cache("pictures")
    cache.save()
    return found


def test_folder_digest_is_of_names_and_contents(folder, tmp_path):
    first = fresh()
    (tmp_path / "other").mkdir()
    os.rename("pictures/below", "pictures/elsewhere")
    assert fresh() != first
    os.rename("pictures/elsewhere", "pictures/below")
    assert fresh() == first
    (folder / "a.png").write_bytes(b"A")
    assert fresh() != first
    (folder / "a.png").write_bytes(b"a")
    os.utime(folder / "a.png", (0, 0))
    assert fresh() == first
    (folder / "c.png").write_bytes(b"")
    assert fresh() != first


def test_hidden_files_and_locks_do_not_count(folder):
    first = fresh()
    for name in (".DS_Store", "lock.mdb"):
        (folder / name).write_bytes(b"x")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_bytes(b"x")
    assert fresh() == first
    assert folder_files("pictures") == ["a.png", "below/b.png"]


def test_only_what_was_written_to_is_read_again(folder, monkeypatch):
    fresh()
    read, digest = [], module._digest
    monkeypatch.setattr(module, "_digest", lambda path, *how: read.append(path) or digest(path, *how))
    fresh()
    assert read == []
    (folder / "a.png").write_bytes(b"A")
    fresh()
    assert read == ["pictures/a.png"]


def test_kinds_of_digest_have_separate_entries(folder):
    cache = DigestCache()
    assert cache("pictures/a.png") == hashlib.sha256(b"a").hexdigest()
    assert cache("pictures/a.png", "md5") == hashlib.md5(b"a").hexdigest()
    assert cache("pictures/a.png") == hashlib.sha256(b"a").hexdigest()
    assert cache("pictures/none.png") is None


def test_two_processes_keep_each_other_s_digests(folder):
    one, two = DigestCache(), DigestCache()
    one("pictures/a.png")
    two("pictures/below/b.png")
    one.save()
    two.save()
    assert set(DigestCache().known) == {"pictures/a.png", "pictures/below/b.png"}
