"""How a dataset gets at its files from outside."""

from pathlib import Path
from typing import Protocol


class AssetFiles(Protocol):
    """Name of an asset → the path of its file, which has been checked."""

    def __call__(self, name: str) -> Path: ...
