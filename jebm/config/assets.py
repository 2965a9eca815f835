"""Assets in params.yaml: external files that can't be rebuilt, and paths of files that belong to the user.

The block ``assets`` gives each asset a place below ``assets/``, a size and a digest. Which assets a component reads
follows from the annotations of its parameters (``AssetName``, ``DataPath`` of ``jebm.config.types``).
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel

from jebm.config.components import Section, blocks_in, marked_fields
from jebm.config.types import ASSET, DATA_PATH, Count, Marked
from jebm.io.compression import other_names

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
    """An external file: its place, its source, and how it is verified."""

    file: Annotated[str, AfterValidator(_below_assets)]
    """Path below ``assets/``."""
    url: str | None = None
    """Where it can be downloaded. ``null``: it is not offered for download and must be put in place by hand."""
    bytes: Count | None = None
    """Size of the file in bytes; ``null`` if unknown."""
    digest: Annotated[str, AfterValidator(_known_digest)] | None = None
    """``md5:…`` or ``sha256:…``. ``null``: the digest of the first file that is found is remembered, and later files
    must have the same digest."""
    content: Annotated[str, AfterValidator(_known_digest)] | None = None
    """``md5:…`` or ``sha256:…`` of the uncompressed content. If it is given, a file of this content is accepted however
    it is compressed (gzip, bzip2, xz, or not at all), at ``file`` or at that name with the suffix that fits."""
    note: str = ""
    """A hint for users who have to obtain the file by hand."""

    @property
    def path(self) -> Path:
        """The file in place; where none is, the place for it."""
        place = ASSETS / self.file
        names = [place, *other_names(place)] if self.content else [place]
        return next((name for name in names if name.exists()), place)

    @property
    def remembered(self) -> Path:
        """File that holds the digest of the first file found, if the parameters give none."""
        return self.path.with_name(f"{self.path.name}.sha256")

    @property
    def expected(self) -> str | None:
        """The digest that the file must have, or None if none is known."""
        if self.digest is None and self.remembered.exists():
            return f"sha256:{self.remembered.read_text(encoding='utf-8').strip()}"
        return self.digest


def with_asset_paths(section: BaseModel, files: Callable[[str], Path]) -> BaseModel:
    """A component's block with the names of its own assets replaced by the paths of the checked files."""
    named = {key: getattr(section, key) for key in marked_fields(type(section), ASSET)}
    return section.model_copy(update={key: str(files(name)) for key, name in named.items() if name is not None})


def asset_names(section: BaseModel) -> list[str]:
    """The names of all assets that a block of parameters mentions, including nested blocks."""
    return list(dict.fromkeys(_values(section, ASSET)))


def data_paths(section: BaseModel) -> list[str]:
    """The paths of all files and folders of the user that a block of parameters mentions, including nested blocks."""
    return list(dict.fromkeys(_values(section, DATA_PATH)))


def _values(section: BaseModel, mark: Marked) -> Iterator[Any]:
    for _, block in blocks_in(section):
        for key in marked_fields(type(block), mark):
            if (value := getattr(block, key)) is not None:
                yield value
