"""LSUN (Yu et al., 2015): scenes such as churches, as encoded images in an LMDB."""

from __future__ import annotations

import io
from pathlib import Path

import lmdb
from PIL import Image

from jebm.config.types import DataPath
from jebm.data.assets import AssetFiles
from jebm.data.sources.base import Source, SourceSplit, explain_damage
from jebm.errors import JebmError


class Lsun(Source):
    """
    Args:
        path: the extracted folder of the training set, for example church_outdoor_train_lmdb.
        test_path: the extracted folder of the validation set, which becomes the test split; null: the test split is
            drawn from the training set (the validation sets of LSUN have only 300 images).
    """

    labelled = False

    def __init__(self, *, path: DataPath, test_path: DataPath | None = None):
        self.path, self.test_path = path, test_path

    def open(self, files: AssetFiles, scratch: Path) -> dict[str, SourceSplit]:
        splits = {"train": _open(Path(self.path))}
        return splits if self.test_path is None else {**splits, "test": _open(Path(self.test_path))}


def _open(path: Path) -> SourceSplit:
    if not (path / "data.mdb").is_file():
        raise JebmError(
            f"{path}: no LMDB folder: there is no data.mdb in it; extract LSUN's zip file and name the folder"
        )
    try:
        # Without a lock file: the folder may be read-only, and reading must not change the digest of the data.
        environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False, max_readers=1)
        with environment.begin() as transaction:
            keys = list(transaction.cursor().iternext(keys=True, values=False))
    except lmdb.Error as error:
        raise JebmError(f"{path}: damaged, or not an LMDB: {error}") from None

    def read(index: int) -> Image.Image:
        with explain_damage(path, "LSUN's LMDB"), environment.begin() as transaction:
            content = transaction.get(keys[index])
        return Image.open(io.BytesIO(content))

    return SourceSplit(len(keys), read, lambda i: f"{path}: {keys[i].decode(errors='replace')}")
