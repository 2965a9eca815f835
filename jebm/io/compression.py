"""Reading one file whatever compressed it: gzip, bzip2, xz, or nothing. The first bytes tell, and not the name."""

import bz2
import gzip
import lzma
import zlib
from pathlib import Path
from typing import BinaryIO

SUFFIXES = (".gz", ".bz2", ".xz")
"""Suffixes of the names of compressed files."""
OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
"""First bytes of a compressed file → the function that opens it."""
ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading raises if a compressed file is damaged or cut."""


def open_uncompressed(path: Path | str) -> BinaryIO:
    """The uncompressed content of a file; one that is not compressed is read as it is.

    Raises:
        any of ``ERRORS``, here or while reading: the file is damaged or cut.
    """
    with open(path, "rb") as file:
        head = file.read(max(map(len, OPENERS)))
    return next((opener for start, opener in OPENERS.items() if head.startswith(start)), open)(path, "rb")


def other_names(path: Path) -> list[Path]:
    """The names that a file would have without compression, and compressed otherwise."""
    plain = path.with_suffix("") if path.suffix in SUFFIXES else path
    return [name for name in (plain, *(plain.with_name(plain.name + suffix) for suffix in SUFFIXES)) if name != path]
