"""Digests of files and folders, remembered for as long as sizes, times and inodes say that nobody wrote to them."""

import hashlib
import json
import os
from pathlib import Path

from jebm.io.files import atomic_write

CACHE = Path(".jebm/cache/digests.json")
LARGE = 2**26
"""Bytes beyond which reading a file again costs more than writing the cache."""
IGNORED_FILE = "lock.mdb"
"""LMDB's lock, which even a reader may touch."""


class DigestCache:
    """Digests by path. A write changes the inode's change time, which nobody can set back."""

    def __init__(self, path: Path | None = None):
        self.path, self.changed, self.hashed = path or CACHE, False, 0
        self.known: dict[str, list] = _read(self.path)

    def __call__(self, path: str, kind: str = "sha256") -> str | None:
        """The digest of the content of a file or a folder (:func:`folder_digest`), or None where there is none."""
        try:
            stamp = file_stamp(os.stat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if os.path.isdir(path):
            return self._folder(path)
        key = path if kind == "sha256" else f"{kind}:{path}"
        known = self.known.get(key)
        if known is None or known[:-1] != stamp:
            self.known[key] = known = [*stamp, _digest(path, kind)]
            self.changed, self.hashed = True, self.hashed + stamp[0]
        return known[-1]

    def _folder(self, path: str) -> str:
        """One entry for a whole folder; those of its files are in a cache of their own, read only when one moved."""
        files = folder_files(path)
        stamps = {name: file_stamp(os.stat(os.path.join(path, name))) for name in files}
        stamp = [hashlib.sha256(json.dumps(stamps).encode()).hexdigest()]
        known = self.known.get(path)
        if known is None or known[:-1] != stamp:
            below = self.path.parent / "folders" / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.json"
            parts = DigestCache(below)
            digests = [(name, parts(os.path.join(path, name))) for name in files]
            parts.save()
            self.known[path] = known = [*stamp, folder_digest(digests)]
            self.changed, self.hashed = True, self.hashed + parts.hashed
        return known[-1]

    def remember(self, path: str, digest: str | None) -> None:
        """Note the digest of a file that was linked or renamed, which changes its change time and not its content."""
        if digest is not None:
            self.known[path] = [*file_stamp(os.stat(path)), digest]
            self.changed = True

    def save(self) -> None:
        """Write what was found, together with what other processes wrote meanwhile."""
        if self.changed:
            self.known = {**_read(self.path), **self.known}
            with atomic_write(self.path) as file:
                json.dump(self.known, file)
            self.changed, self.hashed = False, 0

    def save_large(self) -> None:
        """Write what was found if finding it again would take long: for jobs, of which there are many."""
        if self.hashed >= LARGE:
            self.save()


def folder_files(path: str) -> list[str]:
    """Relative names of all files below a folder, sorted, with ``/`` between their parts; hidden ones don't count."""
    found = []
    for folder, folders, files in os.walk(path, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = os.path.relpath(folder, path)
        names = [name for name in files if not name.startswith(".") and name != IGNORED_FILE]
        found += [Path(inside, name).as_posix() for name in names]
    return sorted(found)


def folder_digest(digests: list[tuple[str, str | None]]) -> str:
    """sha256 over the relative names of files and their sha256: of names and contents, of no time or place."""
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def digest_of(path: Path) -> str | None:
    """The sha256 of one file or folder, by the cache of this working folder."""
    digests = DigestCache()
    found = digests(str(path))
    digests.save_large()
    return found


def _read(path: Path) -> dict[str, list]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}


def file_stamp(status: os.stat_result) -> list[int]:
    """What changes with every write; see :class:`DigestCache`."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _digest(path: str, kind: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def digest(content: object, digits: int = 10) -> str:
    """Hexadecimal digits that identify a JSON value."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
