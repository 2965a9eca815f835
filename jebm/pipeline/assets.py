"""Assets on this machine: whether they exist, and whether they are the files that the parameters describe."""

from pathlib import Path

from jebm.config.assets import Asset
from jebm.errors import JebmError
from jebm.io.compression import ERRORS
from jebm.io.digests import DigestCache
from jebm.io.files import atomic_write


def manual_instructions(asset: Asset) -> str:
    """How to put an asset in place without a network."""
    digest = f", whose digest must be {asset.expected}" if asset.expected else ""
    if asset.content:
        digest = f", plain or compressed, whose uncompressed content must have the digest {asset.content}"
    note = f" ({asset.note})" if asset.note else ""
    return f"put the file{' from ' + asset.url if asset.url else ''} at {asset.path}{digest}{note}"


def verify(name: str, asset: Asset, digests: DigestCache, path: Path | None = None) -> None:
    """Check that a file (the asset's own unless ``path`` is given) is the asset.

    Raises:
        JebmError: it is missing, or has another size or content; both sizes or digests are named. Where the asset
            states a digest of its uncompressed content, the file may have another size and be compressed otherwise.
    """
    path = path or asset.path
    if not path.is_file() and asset.url is None:
        raise JebmError(f"{path}: the asset '{name}' is missing: {manual_instructions(asset)}")
    if not path.is_file():
        raise JebmError(
            f"{path}: the asset '{name}' is missing; `jebm fetch-asset {name}` fetches it where there is a network; "
            f"without one, {manual_instructions(asset)}"
        )
    if asset.content is not None:
        return _verify_content(name, asset, digests, path)
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
            "alone, move it away and fetch it again, or correct its entry in assets"
        )


def _verify_content(name: str, asset: Asset, digests: DigestCache, path: Path) -> None:
    left = "the file was left alone, move it away and fetch it again"
    try:
        found = _found(path, asset.content, digests, uncompressed=True)
    except ERRORS as error:
        raise JebmError(
            f"{path}: truncated or damaged: can't be uncompressed ({' '.join(str(error).split())}); the asset '{name}' "
            f"has assets.{name}.content: {asset.content}; {left}"
        ) from None
    if found != asset.content:
        raise JebmError(
            f"{path}: not the asset '{name}': the digest of its uncompressed content is {found}, assets.{name}.content "
            f"is {asset.content}; {left}"
        )


def _found(path: Path, expected: str, digests: DigestCache, uncompressed: bool = False) -> str:
    kind = expected.split(":")[0]
    return f"{kind}:{digests(str(path), kind, uncompressed)}"


def _digests(path: Path, asset: Asset, digests: DigestCache) -> str:
    if asset.expected is None:
        return ""
    return f" (digest {_found(path, asset.expected, digests)}, expected {asset.expected})"


def remember(asset: Asset, digests: DigestCache) -> None:
    """Store the digest of a file beside it if the parameters give none."""
    if asset.expected is None and asset.content is None:
        with atomic_write(asset.remembered) as file:
            file.write(f"{digests(str(asset.path))}\n")


def inventory(entries: dict[str, Asset], digests: DigestCache) -> str:
    """One line per asset with its size, state and place, and the total size of those that are missing.

    A last line names those that may be compressed otherwise than the published file.
    """
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
    lines.append(f"{'still to fetch':<28}{missing / 1e6:>11,.1f} MB")
    by_content = [name for name, asset in entries.items() if asset.content]
    if by_content:
        lines.append(
            "known by their content, so that they may also be plain (without .gz) or compressed by gzip, bzip2 or xz: "
            + ", ".join(by_content)
        )
    return "\n".join(lines)


def refuse_wrong(entries: dict[str, Asset], digests: DigestCache) -> None:
    """Check that no asset in place is another file; missing ones are ignored, since they can be fetched.

    Raises:
        JebmError: one line for each wrong file.
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


class VerifiedAssets:
    """Name → path of an asset that has been verified; components open their files by it."""

    def __init__(self, entries: dict[str, Asset]):
        self.entries = entries

    def __call__(self, name: str) -> Path:
        """Verify and return the path; the digest cache avoids reading gigabytes again."""
        digests, asset = DigestCache(), self.entries[name]
        verify(name, asset, digests)
        remember(asset, digests)
        digests.save_large()
        return asset.path
