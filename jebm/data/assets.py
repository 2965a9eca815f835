"""The interface through which a dataset reads its files from outside."""

from pathlib import Path
from typing import Protocol


class AssetFiles(Protocol):
    """Name of an asset → path of its file, whose digest has been checked."""

    def __call__(self, name: str) -> Path: ...
