"""Tensors on disk: damaged files are errors of one line, and reading executes no code."""

import os
import pickle

import pytest
import torch

from jebm.errors import JebmError
from jebm.io.tensors import (
    read_snapshots,
    read_tensors,
    read_weights,
    with_snapshots,
    write_tensors,
    write_tensors_by_rows,
)


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


def test_missing_file_of_tensors_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(JebmError, match=r"no such file; `snakemake .*weights` makes it"):
        read_tensors(tmp_path / "weights")


def test_snapshots_stand_beside_the_weights_and_are_read_apart(tmp_path):
    weights = {"net.weight": torch.ones(2, 2)}
    snapshots = {step: {"net.weight": torch.full((2, 2), float(step))} for step in (20, 100, 3)}
    write_tensors(tmp_path / "file", with_snapshots(weights, snapshots))
    assert set(read_weights(tmp_path / "file")) == {"net.weight"}
    assert read_weights(tmp_path / "file")["net.weight"][0, 0] == 1
    found = read_snapshots(tmp_path / "file")
    assert list(found) == [3, 20, 100]
    assert all(own["net.weight"][0, 0] == step for step, own in found.items())


def test_tensors_that_came_row_by_row_are_the_same_bytes_as_at_once(tmp_path):
    tensors = {
        "images": torch.arange(70 * 6, dtype=torch.int64).reshape(70, 1, 2, 3).to(torch.uint8),
        "eps": torch.arange(140, dtype=torch.float32).reshape(70, 2).T.contiguous().T,
        "tilt": torch.arange(70, dtype=torch.float32),
        "labels": torch.arange(70),
    }
    header = {"stage": 'é"\\', "diagnostics": {"acceptance": 0.1}, "seed": None}
    write_tensors(tmp_path / "whole", tensors, header)
    with write_tensors_by_rows(tmp_path / "streamed") as out:
        for name, tensor in tensors.items():
            for rows in tensor.split(32):
                out.append(name, rows)
        out.header = header
    assert (tmp_path / "streamed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["streamed", "whole"]


def test_failed_write_by_rows_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_tensors(path, {"x": torch.ones(1)})
    before = path.read_bytes()

    def two_widths():
        with write_tensors_by_rows(path) as out:
            out.append("x", torch.zeros(4, 3))
            out.append("x", torch.zeros(4, 2))

    with pytest.raises(JebmError, match=r"x: rows of \[2\] torch.float32 don't fit onto \[3\] torch.float32"):
        two_widths()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
