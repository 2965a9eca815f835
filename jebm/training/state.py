"""Training state on disk: written atomically, with the previous state as a backup, and read without executing code.

A state file consists of 64 hexadecimal digits (the SHA-256 of the rest), a line feed, and the output of ``torch.save``.
It is read with ``weights_only``, so it can't execute code.
"""

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Protocol

import torch

from jebm.io.files import atomic_write
from jebm.runtime.distributed import map_location, ranks
from jebm.runtime.progress import log


class StateFile:
    """``state.pt`` and its backup ``state.previous.pt``, each with the identity of the run to which it belongs."""

    def __init__(self, folder: Path, identity: dict):
        self.path, self.previous = folder / "state.pt", folder / "state.previous.pt"
        self.identity = identity

    def save(self, content: dict) -> bool:
        """Write the state to a new file and rename it; returns whether that worked.

        A full disk costs a checkpoint, not the run: the old state stays, and the next checkpoint tries again.
        """
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "content": content}, buffer)
        payload = buffer.getvalue()
        new = self.path.with_name("state.new.pt")
        try:
            with atomic_write(new, "wb") as file:
                file.write(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
            if self.path.exists():
                os.replace(self.path, self.previous)
            os.replace(new, self.path)
        except OSError as error:
            log(f"warning: {self.path}: this checkpoint could not be saved ({error.strerror}); going on without it")
            return False
        return True

    def load(self) -> dict | None:
        """The newest undamaged state that belongs to this run, or None."""
        for path in (self.path, self.previous):
            content = self._read(path)
            if content is not None:
                return content
        return None

    def _read(self, path: Path) -> dict | None:
        try:
            checksum, _, payload = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if hashlib.sha256(payload).hexdigest().encode() != checksum:
            log(f"warning: {path} is truncated or damaged; it is not used")
            return None
        try:
            state = torch.load(io.BytesIO(payload), map_location=map_location(), weights_only=True)
            identity, content = state["identity"], state["content"]
        except (pickle.UnpicklingError, KeyError, TypeError, RuntimeError, EOFError):
            log(f"warning: {path} is no training state of jebm, or holds code, which is never run; it is not used")
            return None
        if identity != self.identity:
            moved = [key for key in self.identity if identity.get(key) != self.identity[key]]
            log(f"warning: {path} belongs to a run with other {' and '.join(moved)}; it is not resumed")
            return None
        return content


class Stateful(Protocol):
    """An object whose state is part of a checkpoint."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> object: ...


class Checkpoint:
    """The state of all parts of an unfinished run in one file.

    Args:
        loss: its state, such as walkers, is that of each rank; ranks of another number than before share the states.
        parts: objects whose state is the same on all ranks, or gathered from them by the object.
    """

    def __init__(self, file: StateFile, loss: Stateful, **parts: Stateful):
        self.file, self.loss, self.parts = file, loss, parts

    def save(self) -> None:
        """Gather the state on all ranks, and write it on rank 0. The other ranks wait until it is written, so that
        there is a state to resume from if one of them stops afterwards."""
        # Called on all ranks, since the state of some parts is gathered from all of them.
        content = {name: part.state_dict() for name, part in self.parts.items()}
        content["losses"] = ranks().gather_object(self.loss.state_dict())
        if ranks().is_rank_zero:
            self.file.save(content)
        ranks().barrier()

    def load(self) -> bool:
        """Restore the newest undamaged state that belongs to this run; returns whether there is one."""
        content = self.file.load()
        for name, part in self.parts.items() if content else ():
            part.load_state_dict(content[name])
        if content:
            self.loss.load_state_dict(content["losses"][ranks().rank % len(content["losses"])])
        return content is not None
