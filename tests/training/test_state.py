"""Training state on disk."""

import hashlib
import pickle
from pathlib import Path

import pytest
import torch

from jebm.training.state import StateFile

CONTENT = {"step": 3, "module": {"w": torch.arange(4.0)}, "history": [{"step": 3, "loss": 0.1}]}


def state(folder: Path, **identity) -> StateFile:
    return StateFile(folder, {"parameters": "p", "seed": 0, "data": ["x"]} | identity)


def test_state_comes_back_as_it_was(tmp_path):
    state(tmp_path).save(CONTENT)
    content = state(tmp_path).load()
    assert torch.equal(content["module"]["w"], CONTENT["module"]["w"])
    assert content["history"] == CONTENT["history"]


def test_no_state_is_a_fresh_start(tmp_path):
    assert state(tmp_path / "nowhere").load() is None


def test_newest_state_is_loaded_and_the_one_before_kept(tmp_path):
    for step in (1, 2, 3):
        state(tmp_path).save({"step": step})
    assert state(tmp_path).load()["step"] == 3
    (tmp_path / "state.pt").unlink()
    assert state(tmp_path).load()["step"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.previous.pt"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: b"0" * 64 + content[64:],
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
    ],
    ids=["half", "last byte", "empty", "sum", "a bit"],
)
def test_damaged_state_is_skipped_with_a_warning(tmp_path, capsys, damage):
    for step in (1, 2):
        state(tmp_path).save({"step": step})
    path = tmp_path / "state.pt"
    path.write_bytes(damage(path.read_bytes()))
    assert state(tmp_path).load()["step"] == 1
    assert f"warning: {path} is truncated or damaged" in capsys.readouterr().err


def test_both_damaged_is_a_fresh_start(tmp_path):
    for step in (1, 2):
        state(tmp_path).save({"step": step})
    for path in tmp_path.iterdir():
        path.write_bytes(b"junk")
    assert state(tmp_path).load() is None


def test_damaged_state_does_not_displace_the_good_one_before_it(tmp_path, monkeypatch):
    """Resumed from the previous state, the next save may fail (disk full): a good state must be left."""
    for step in (1, 2):
        state(tmp_path).save({"step": step})
    (tmp_path / "state.pt").write_bytes(b"junk")
    file = state(tmp_path)
    assert file.load()["step"] == 1

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert not file.save({"step": 2})
    content = state(tmp_path).load()
    assert content is not None
    assert content["step"] == 1


def test_disk_full_costs_the_checkpoint_and_leaves_the_last_state(tmp_path, monkeypatch):
    state(tmp_path).save({"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for _ in range(2):
        assert not state(tmp_path).save({"step": 2})
    assert state(tmp_path).load()["step"] == 1
    assert not [path for path in tmp_path.iterdir() if path.name != "state.pt"]


@pytest.mark.parametrize(("key", "value"), [("seed", 1), ("parameters", "q"), ("data", ["y"])])
def test_state_of_another_identity_is_not_loaded(tmp_path, capsys, key, value):
    state(tmp_path, **{key: value}).save(CONTENT)
    assert state(tmp_path).load() is None
    assert f"belongs to a run with other {key}; it is not resumed" in capsys.readouterr().err


def test_reading_a_state_executes_nothing(tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    payload = pickle.dumps({"identity": {}, "content": Trap()}, protocol=2)
    (tmp_path / "state.pt").write_bytes(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
    assert state(tmp_path).load() is None
    assert "holds code, which is never run" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()
