"""Digests of files and folders, cached by the size, times and inode of each file.

A cached digest is valid as long as these are unchanged.
"""

import hashlib
import json
import os
from pathlib import Path

from jebm.io.compression import open_uncompressed
from jebm.io.files import atomic_write

CACHE = Path(".jebm/cache/digests.json")
LARGE = 2**26
"""Bytes above which hashing a file again takes longer than writing the cache."""
IGNORED_FILE = "lock.mdb"
"""The lock file of LMDB. It is not part of the data, and reading the database may change it."""


class DigestCache:
    """Digests by path. Every write to a file updates its change time (ctime), which no program can reset."""

    def __init__(self, path: Path | None = None):
        self.path, self.changed, self.hashed = path or CACHE, False, 0
        self.known: dict[str, list] = _read(self.path)

    def __call__(self, path: str, kind: str = "sha256", uncompressed: bool = False) -> str | None:
        """The digest of a file or of a folder (:func:`folder_digest`); None if the path does not exist.

        Args:
            uncompressed: of the content that :func:`~jebm.io.compression.open_uncompressed` reads, which raises one of
                its errors if a compressed file is damaged.
        """
        try:
            stamp = file_stamp(os.stat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if os.path.isdir(path):
            return self._folder(path)
        key = f"uncompressed {kind}:{path}" if uncompressed else path if kind == "sha256" else f"{kind}:{path}"
        known = self.known.get(key)
        if known is None or known[:-1] != stamp:
            self.known[key] = known = [*stamp, _digest(path, kind, uncompressed)]
            self.changed, self.hashed = True, self.hashed + stamp[0]
        return known[-1]

    def _folder(self, path: str) -> str:
        """The digest of a folder, cached under one entry.

        The digests of its files are in a separate cache, which is read only if a file was added, removed or changed.
        """
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
        """Store the digest of a file that was linked or renamed: this updates the change time but not the content."""
        if digest is not None:
            self.known[path] = [*file_stamp(os.stat(path)), digest]
            self.changed = True

    def save(self) -> None:
        """Write new entries to the cache, and keep those that other processes have written since it was read."""
        if self.changed:
            self.known = {**_read(self.path), **self.known}
            with atomic_write(self.path) as file:
                json.dump(self.known, file)
            self.changed, self.hashed = False, 0

    def save_large(self) -> None:
        """Write new entries only if computing them again would take long; for jobs, of which there are many."""
        if self.hashed >= LARGE:
            self.save()


def folder_files(path: str) -> list[str]:
    """Sorted relative paths, with ``/``, of all files below a folder that are not hidden."""
    found = []
    for folder, folders, files in os.walk(path, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = os.path.relpath(folder, path)
        names = [name for name in files if not name.startswith(".") and name != IGNORED_FILE]
        found += [Path(inside, name).as_posix() for name in names]
    return sorted(found)


def folder_digest(digests: list[tuple[str, str | None]]) -> str:
    """sha256 of the (relative path, sha256) pairs of files. It depends on neither times nor the place of the folder."""
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def digest_of(path: Path) -> str | None:
    """The sha256 of a file or folder, using the cache of this working folder; None if the path does not exist."""
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
    """Size, times and inode of a file. Every write changes them; see :class:`DigestCache`."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _digest(path: str, kind: str, uncompressed: bool) -> str:
    with open_uncompressed(path) if uncompressed else open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def digest(content: object, digits: int = 10) -> str:
    """The first ``digits`` hexadecimal digits of the sha256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def sha256(path: Path) -> str:
    """The sha256 of a file in hexadecimal digits, without the cache."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
