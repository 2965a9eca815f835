"""Images in a folder and its subfolders, or in a zip file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from PIL import Image

from jebm.config.types import DataPath
from jebm.data.assets import AssetFiles
from jebm.data.sources.base import Source, SourceSplit, explain_damage
from jebm.errors import SettingError
from jebm.io.image_files import image_names


class Folder(Source):
    """All images below a path, sorted by name, without a test split and without labels.

    Args:
        path: path of the folder or the zip file. The contents identify the data, not the path or the file times.
    """

    labelled = False

    def __init__(self, *, path: DataPath):
        self.path = path

    def open(self, files: AssetFiles, scratch: Path) -> dict[str, SourceSplit]:
        path = Path(self.path)
        if path.is_dir():
            return {"train": from_folder(path)}
        if path.is_file():
            return {"train": from_zip(path)}
        raise SettingError(f"dataset.source.path: there is no folder and no zip file '{path}'")


def from_folder(path: Path) -> SourceSplit:
    """All images below a folder."""
    names = image_names(path)

    def read(index: int) -> Image.Image:
        return Image.open(io.BytesIO((path / names[index]).read_bytes()))

    return SourceSplit(len(names), read, lambda i: str(path / names[i]))


def from_zip(path: Path, names: list[str] | None = None) -> SourceSplit:
    """The named members of a zip file, or all images in it. The file is not extracted."""
    with explain_damage(path, "a zip file"):
        archive = zipfile.ZipFile(path)
        inside = set(archive.namelist())
    if names is None:
        names = image_names(path)
    with explain_damage(path, "the zip file of these images"):
        if missing := next((name for name in names if name not in inside), None):
            raise ValueError(f"{missing} is missing")
    return SourceSplit(
        len(names), lambda i: Image.open(io.BytesIO(archive.read(names[i]))), lambda i: f"{path}: {names[i]}"
    )
