"""Assets in params.yaml: files from outside that can't be rebuilt, and the paths of data that a user brings along.

An asset is named in params.yaml with its place below ``assets/``, its size and its digest. What a component reads is
seen from the annotations of its parameters (``AssetName``, ``DataPath`` of ``jebm.config.types``).
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel

from jebm.config.components import Section, blocks_in, marked_fields
from jebm.config.types import ASSET, DATA_PATH, Count, Marked

ASSETS = Path("assets")


def _below_assets(value: str) -> str:
    path = PurePosixPath(value)
    if not value or path.is_absolute() or ".." in path.parts or path.suffix == ".sha256":
        raise ValueError("must be a path below assets/, such as cifar10/cifar-10-python.tar.gz")
    return str(path)


def _known_digest(value: str) -> str:
    if not re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", value):
        raise ValueError("must be md5: or sha256: and the hexadecimal digits")
    return value


class Asset(Section):
    """One file: where it lies, where it comes from, and what it must be."""

    file: Annotated[str, AfterValidator(_below_assets)]
    """Below ``assets/``."""
    url: str | None = None
    """Null: nobody offers it for download, it is put in place by hand."""
    bytes: Count | None = None
    """Size of the file; null: unknown."""
    digest: Annotated[str, AfterValidator(_known_digest)] | None = None
    """``md5:…`` or ``sha256:…``; null: the first file that is seen is remembered, and later ones must agree."""
    note: str = ""
    """For whoever has to find the file by hand."""

    @property
    def path(self) -> Path:
        return ASSETS / self.file

    @property
    def remembered(self) -> Path:
        """Where the digest of the first file is kept if none is published."""
        return self.path.with_name(f"{self.path.name}.sha256")

    @property
    def expected(self) -> str | None:
        """The digest that a file must have, as far as it is known."""
        if self.digest is None and self.remembered.exists():
            return f"sha256:{self.remembered.read_text(encoding='utf-8').strip()}"
        return self.digest


def resolved(section: BaseModel, files: Callable[[str], Path]) -> BaseModel:
    """A component's block with the names of its own assets replaced by the paths of the checked files."""
    named = {key: getattr(section, key) for key in marked_fields(type(section), ASSET)}
    return section.model_copy(update={key: str(files(name)) for key, name in named.items() if name is not None})


def asset_names(section: BaseModel) -> list[str]:
    """The assets that a block of parameters names, nested blocks too."""
    return list(dict.fromkeys(_values(section, ASSET)))


def data_paths(section: BaseModel) -> list[str]:
    """The files and folders of the user's own that a block of parameters names."""
    return list(dict.fromkeys(_values(section, DATA_PATH)))


def _values(section: BaseModel, mark: Marked) -> Iterator[Any]:
    for _, block in blocks_in(section):
        for key in marked_fields(type(block), mark):
            if (value := getattr(block, key)) is not None:
                yield value
