"""sha256 of files, remembered for as long as a file's size, times and inode say that nobody wrote to it."""

import json
import os
from pathlib import Path

from jebm.files import published, sha256

CACHE = Path(".jebm/digests.json")


class DigestCache:
    """Digests of files by path. A write changes the inode's change time, which nobody can set back."""

    def __init__(self, path: Path = CACHE):
        self.path, self.changed = path, False
        try:
            self.known: dict[str, list] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            self.known = {}

    def __call__(self, path: str) -> str | None:
        """The digest of a file's content, or None where there is no file."""
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        known = self.known.get(path)
        if known is None or known[:-1] != stamp:
            self.known[path] = known = [*stamp, sha256(Path(path))]
            self.changed = True
        return known[-1]

    def set_time(self, path: str, nanoseconds: int) -> None:
        """Change a file's modification time without forgetting its digest."""
        digest = self(path)
        os.utime(path, ns=(nanoseconds, nanoseconds))
        if os.path.islink(path):
            os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)
        status = os.stat(path)
        self.known[path] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, digest]
        self.changed = True

    def save(self) -> None:
        if self.changed:
            with published(self.path) as file:
                json.dump(self.known, file)
            self.changed = False
