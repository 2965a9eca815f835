"""Atomic writes, and reading of JSON and CSV."""

import os
import stat

import pytest

from jebm.errors import JebmError
from jebm.io.digests import sha256
from jebm.io.files import atomic_write, read_json, write_csv, write_json


def test_atomic_write_shows_the_file_at_the_end_only(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path) as file:
        file.write("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failed_write_leaves_the_old_file_and_no_temporary_file(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail_halfway():
        with atomic_write(path) as file:
            file.write("half of the n")
            raise error

    with pytest.raises(error):
        fail_halfway()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_atomic_write_gives_the_usual_permissions(tmp_path):
    mask = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "file.txt") as file:
            file.write("x")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o640


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    for content in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, content)
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["file.json"]


def test_json_is_written_alike_for_alike_content(tmp_path):
    write_json(tmp_path / "a", {"x": 1, "y": [0.1, "é"]})
    write_json(tmp_path / "b", {"y": [0.1, "é"], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"{'a': 1}"])
def test_broken_json_is_named(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(JebmError, match=r"file\.json: not a JSON file .*; delete it and run again"):
        read_json(path)


def test_csv_has_its_header_and_unix_lines(tmp_path):
    write_csv(tmp_path / "file.csv", ["a", "b"], [{"a": 1, "b": "x, y"}, {"a": 2, "b": ""}])
    assert (tmp_path / "file.csv").read_bytes() == b'a,b\n1,"x, y"\n2,\n'
