"""Training state on disk: written atomically, with the previous one kept, and read without executing anything.

A state file is 64 hexadecimal digits (the sha256 of the rest), a line feed, and what ``torch.save`` wrote. It is read
with code execution off.
"""

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Protocol

import torch

from jebm.io.files import published
from jebm.runtime.distributed import map_location, ranks
from jebm.runtime.progress import say


class StateFile:
    """``state.pt`` of one run, and ``state.previous.pt``, each with the identity of the run that it belongs to."""

    def __init__(self, folder: Path, identity: dict):
        self.path, self.previous = folder / "state.pt", folder / "state.previous.pt"
        self.identity = identity

    def save(self, content: dict) -> bool:
        """Write the state beside the old one and rename; returns whether that worked.

        A full disk costs the checkpoint, not the run: the old state stays, and the next interval tries again.
        """
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "content": content}, buffer)
        payload = buffer.getvalue()
        new = self.path.with_name("state.new.pt")
        try:
            with published(new, "wb") as file:
                file.write(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
            if self.path.exists():
                os.replace(self.path, self.previous)
            os.replace(new, self.path)
        except OSError as error:
            say(f"warning: {self.path}: this checkpoint could not be saved ({error.strerror}); going on without it")
            return False
        return True

    def load(self) -> dict | None:
        """The newest state that is whole and belongs to this run, or None to start afresh."""
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
            say(f"warning: {path} is truncated or damaged; it is not used")
            return None
        try:
            state = torch.load(io.BytesIO(payload), map_location=map_location(), weights_only=True)
            identity, content = state["identity"], state["content"]
        except (pickle.UnpicklingError, KeyError, TypeError, RuntimeError, EOFError):
            say(f"warning: {path} is no training state of jebm, or holds code, which is never run; it is not used")
            return None
        if identity != self.identity:
            moved = [key for key in self.identity if identity.get(key) != self.identity[key]]
            say(f"warning: {path} belongs to a run with other {' and '.join(moved)}; it is not resumed")
            return None
        return content


class Stateful(Protocol):
    """What a checkpoint consists of."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> object: ...


class Checkpoint:
    """All parts of an unfinished run in one file: each part says by ``state_dict`` what it needs to go on."""

    def __init__(self, file: StateFile, **parts: Stateful):
        self.file, self.parts = file, parts

    def save(self) -> None:
        """Rank 0 writes, and the others wait for it: a rank that stops after this has something to go on from."""
        content = {name: part.state_dict() for name, part in self.parts.items()}  # on all ranks: some parts gather
        if ranks().is_rank_zero:
            self.file.save(content)
        ranks().barrier()

    def load(self) -> bool:
        """Go on from the newest state that is whole and belongs to this run; returns whether there is one."""
        content = self.file.load()
        for name, part in self.parts.items() if content else ():
            part.load_state_dict(content[name])
        return content is not None
