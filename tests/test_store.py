"""Files that appear whole or not at all, and are read without executing anything."""

import os
import pickle
import stat

import pytest
import torch

from jebm.errors import JebmError
from jebm.files import published, read_json, sha256, write_csv, write_json
from jebm.store import read_tensors, write_tensors


def test_published_file_appears_at_the_end(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with published(path) as file:
        file.write("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_writer_that_fails_leaves_the_old_file_and_no_litter(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail_halfway():
        with published(path) as file:
            file.write("half of the n")
            raise error

    with pytest.raises(error):
        fail_halfway()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_published_file_has_the_permissions_of_any_other(tmp_path):
    mask = os.umask(0o027)
    try:
        with published(tmp_path / "file.txt") as file:
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


def test_tensors_and_header_come_back(tmp_path):
    tensors = {
        "images": torch.arange(12, dtype=torch.uint8).reshape(3, 4),
        "weights": torch.randn(2, 3).T.requires_grad_(),
        "labels": torch.tensor([1, -2]),
        "score/a>1": torch.tensor(3.5, dtype=torch.float64),
    }
    header = {"kind": "prior", "spec": {"a": [1, None, 0.1], "é": True}}
    write_tensors(tmp_path / "file", tensors, header)
    found, found_header = read_tensors(tmp_path / "file")
    assert found_header == header
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[n], tensors[n]) and found[n].dtype == tensors[n].dtype for n in tensors)


def test_only_the_wanted_tensors_are_read(tmp_path):
    write_tensors(tmp_path / "file", {"a": torch.zeros(1), "b": torch.ones(1)})
    found, header = read_tensors(tmp_path / "file", {"b"}.__contains__)
    assert list(found) == ["b"]
    assert header == {}


def test_same_tensors_are_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_tensors(tmp_path / name, {"x": torch.ones(3), "y": torch.zeros(2)}, {"k": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_failed_write_of_tensors_leaves_the_old_file(tmp_path):
    write_tensors(tmp_path / "file", {"a": torch.zeros(1)})
    with pytest.raises(TypeError):
        write_tensors(tmp_path / "file", {"a": torch.ones(1)}, {"header": object()})
    assert read_tensors(tmp_path / "file")[0]["a"] == 0
    assert os.listdir(tmp_path) == ["file"]


class Trap:
    executed = False

    def __reduce__(self):
        return (setattr, (Trap, "executed", True))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:4],
        lambda whole: b"",
        lambda whole: b"junk" * 100,
        lambda whole: b"\xff" * 200,
        lambda whole: pickle.dumps(Trap()),
        lambda whole: whole.replace(b'"jebm"', b'"mbej"'),
    ],
    ids=["last byte", "half", "4 bytes", "empty", "junk", "huge header", "pickle", "not ours"],
)
def test_file_that_is_not_whole_or_not_ours_is_an_error_of_one_line(tmp_path, spoil):
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"a": torch.zeros(100)}, {"kind": "prior"})
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(JebmError) as error:
        read_tensors(path)
    assert str(error.value).startswith(f"{path}: corrupt or not a file of jebm (")
    assert str(error.value).endswith("; delete it and run again")
    assert "\n" not in str(error.value)
    assert not Trap.executed


def test_missing_tensors_say_what_makes_them(tmp_path):
    with pytest.raises(JebmError, match=r"no such file; `snakemake .*weights` makes it"):
        read_tensors(tmp_path / "weights")
