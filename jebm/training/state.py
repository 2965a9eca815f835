"""Training state on disk: written atomically, with the previous one kept, and read without executing anything.

A state file is 64 hexadecimal digits (the sha256 of the rest), a line feed, and what ``torch.save`` wrote. It is read
with code execution off.
"""

import hashlib
import io
import os
from pathlib import Path

import torch

from jebm.files import published
from jebm.progress import say


class StateFile:
    """``state.pt`` of one run, and ``state.previous.pt``, each with the identity of the run that it belongs to."""

    def __init__(self, folder: Path, identity: dict):
        self.path, self.previous = folder / "state.pt", folder / "state.previous.pt"
        self.identity = identity

    def save(self, content: dict) -> None:
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "content": content}, buffer)
        payload = buffer.getvalue()
        if self.path.exists():
            os.replace(self.path, self.previous)
        with published(self.path, "wb") as file:
            file.write(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)

    def load(self) -> dict | None:
        """The newest state that is whole and belongs to this run, or None to start afresh."""
        for path in (self.path, self.previous):
            content = self._read(path)
            if content is not None:
                return content
        return None

    def _read(self, path: Path) -> dict | None:
        try:
            sum_, _, payload = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if hashlib.sha256(payload).hexdigest().encode() != sum_:
            say(f"warning: {path} is truncated or damaged; it is not used")
            return None
        state = torch.load(io.BytesIO(payload), weights_only=True)
        if state["identity"] != self.identity:
            moved = [key for key in self.identity if state["identity"].get(key) != self.identity[key]]
            say(f"warning: {path} belongs to a run with other {' and '.join(moved)}; it is not resumed")
            return None
        return state["content"]

    def clear(self) -> None:
        """Forget the state of a run whose result is published."""
        for path in (self.path, self.previous):
            path.unlink(missing_ok=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()
