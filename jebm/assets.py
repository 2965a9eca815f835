"""Assets: files from outside that can't be rebuilt, and the paths of data that a user brings along.

An asset is named in params.yaml with its place below ``assets/``, its size and its digest. What a component reads is
seen from the annotations of its parameters (``AssetName``, ``DataPath`` of ``jebm.types``). Without torch: the plan and
the jobs are made from this.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel

from jebm.digests import DigestCache
from jebm.errors import JebmError
from jebm.files import published
from jebm.registry import Section
from jebm.types import ASSET, DATA_PATH, Count, Marked

ASSETS = Path("assets")
_ASSET, _DATA_PATH = Marked(ASSET), Marked(DATA_PATH)


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


def by_hand(asset: Asset) -> str:
    """How to put an asset in place without a network."""
    digest = f", whose digest must be {asset.expected}" if asset.expected else ""
    note = f" ({asset.note})" if asset.note else ""
    return f"put the file{' from ' + asset.url if asset.url else ''} at {asset.path}{digest}{note}"


def verify(name: str, asset: Asset, digests: DigestCache, path: Path | None = None) -> None:
    """See that a file, the asset's own unless another is given, is the asset.

    Raises:
        JebmError: it is missing, of another size or another content; both sizes or digests are named.
    """
    path = path or asset.path
    if not path.is_file() and asset.url is None:
        raise JebmError(f"{path}: the asset '{name}' is missing: {by_hand(asset)}")
    if not path.is_file():
        raise JebmError(
            f"{path}: the asset '{name}' is missing; `jebm fetch-asset {name}` fetches it where there is a network; "
            f"without one, {by_hand(asset)}"
        )
    size = path.stat().st_size
    if asset.bytes is not None and size != asset.bytes:
        state = "truncated" if size < asset.bytes else "not the file that is meant"
        raise JebmError(
            f"{path}: {state}: has {size:,} bytes, the asset '{name}' has {asset.bytes:,}"
            f"{_digests(path, asset, digests)}; the file was left alone, move it away and fetch it again"
        )
    if asset.expected is not None and (found := _found(path, asset.expected, digests)) != asset.expected:
        raise JebmError(
            f"{path}: not the asset '{name}': its digest is {found}, expected is {asset.expected}; the file was left "
            "alone, move it away and fetch it again, or correct assets in params.yaml"
        )


def _found(path: Path, expected: str, digests: DigestCache) -> str:
    kind = expected.split(":")[0]
    return f"{kind}:{digests(str(path), kind)}"


def _digests(path: Path, asset: Asset, digests: DigestCache) -> str:
    if asset.expected is None:
        return ""
    return f" (digest {_found(path, asset.expected, digests)}, expected {asset.expected})"


def remember(asset: Asset, digests: DigestCache) -> None:
    """Keep the digest of a file beside it, where none is published."""
    if asset.expected is None:
        with published(asset.remembered) as file:
            file.write(f"{digests(str(asset.path))}\n")


def inventory(entries: dict[str, Asset], digests: DigestCache) -> str:
    """A line an asset: its size, whether it is there and whole, and its place; and the sum of what is missing."""
    if not entries:
        return "assets: none are needed"
    lines, missing = [], 0
    for name, asset in entries.items():
        try:
            verify(name, asset, digests)
            state = "in place"
        except JebmError:
            state = "wrong or truncated" if asset.path.exists() else "missing"
            missing += asset.bytes or 0
        size = "size not known" if asset.bytes is None else f"{asset.bytes / 1e6:,.1f} MB"
        lines.append(f"{name:<28}{size:>14}  {state:<18}  {asset.path}")
    return "\n".join([*lines, f"{'still to fetch':<28}{missing / 1e6:>11,.1f} MB"])


def refuse_wrong(entries: dict[str, Asset], digests: DigestCache) -> None:
    """See that none of the assets that are in place is another file; missing ones are left to be fetched.

    Raises:
        JebmError: a line for each that is.
    """
    wrong = []
    for name, asset in entries.items():
        try:
            if asset.path.exists():
                verify(name, asset, digests)
        except JebmError as error:
            wrong.append(str(error))
    if wrong:
        raise JebmError("\n".join(wrong))


class AssetFiles:
    """Name → the path of an asset that has been checked; what a component opens its files with."""

    def __init__(self, entries: dict[str, Asset]):
        self.entries = entries

    def __call__(self, name: str) -> Path:
        """See :func:`verify`; reading gigabytes again is spared by the digest cache."""
        digests, asset = DigestCache(), self.entries[name]
        verify(name, asset, digests)
        remember(asset, digests)
        digests.save_large()
        return asset.path


def resolved(section: BaseModel, files: AssetFiles) -> BaseModel:
    """A component's block with the names of its own assets replaced by the paths of the checked files."""
    named = {key: getattr(section, key) for key in _marked_fields(type(section), _ASSET)}
    return section.model_copy(update={key: str(files(name)) for key, name in named.items() if name is not None})


def asset_names(section: BaseModel) -> list[str]:
    """The assets that a block of parameters names, nested blocks too."""
    return list(dict.fromkeys(_values(section, _ASSET)))


def data_paths(section: BaseModel) -> list[str]:
    """The files and folders of the user's own that a block of parameters names."""
    return list(dict.fromkeys(_values(section, _DATA_PATH)))


def _values(section: BaseModel, mark: Marked) -> Iterator[Any]:
    marked = _marked_fields(type(section), mark)
    for key in type(section).model_fields:
        value = getattr(section, key)
        if value is not None and key in marked:
            yield value
        for block in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            if isinstance(block, BaseModel):
                yield from _values(block, mark)


@cache
def _marked_fields(section: type[BaseModel], mark: Marked) -> frozenset[str]:
    """The parameters of a component that a mark stands at."""
    fields = section.model_fields.items()
    return frozenset(key for key, field in fields if _is_marked(field.annotation, field.metadata, mark))


def _is_marked(annotation: Any, metadata: list, mark: Marked) -> bool:
    """Whether a mark stands at an annotation, or inside one that may also be null."""
    inner = [getattr(part, "__metadata__", ()) for part in get_args(annotation)]
    return any(mark in found for found in (metadata, *inner))
