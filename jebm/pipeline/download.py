"""Fetching an asset: resumed where it broke off, checked, and put in place by a rename.

What is there so far lies in ``<file>.partial``. A file that is already in place is checked and never replaced.
"""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import requests
from filelock import FileLock, Timeout

from jebm.config.assets import Asset
from jebm.errors import JebmError
from jebm.io.digests import DigestCache
from jebm.pipeline.assets import by_hand, remember, verify
from jebm.pipeline.results import LOCKS
from jebm.runtime.progress import Progress, say

ATTEMPTS = 5
"""Without a new byte, after which there is no network."""
PAUSE = 1.0
"""Seconds before the second attempt; doubled before each further one."""
CHUNK = 2**16
TIMEOUT = (15, 60)
"""Seconds to connect, and between two arrivals of data."""
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses that another attempt may not meet again."""


class BrokenOffError(Exception):
    """The server stopped before the file was complete."""


def fetch(name: str, asset: Asset, pause: float = PAUSE) -> Path:
    """Bring an asset to its place, or see that the file in its place is the asset.

    Raises:
        JebmError: the file in place is another one, the server is out of reach or sends something else, or the folder
            can't be written to. Each says what the file must be and where it goes.
    """
    digests, path = DigestCache(), asset.path
    if path.exists():
        verify(name, asset, digests)
        remember(asset, digests)
        say(f"{path}: in place")
    else:
        if asset.url is None:
            raise JebmError(f"the asset '{name}' can't be fetched: {by_hand(asset)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            LOCKS.mkdir(parents=True, exist_ok=True)
            with FileLock(LOCKS / f"asset-{name}.lock", timeout=0):  # two would write to one partial file
                _fetch_checked(name, asset, digests, pause)
        except Timeout:
            raise JebmError(f"{path}: another process is already fetching this; let it finish") from None
        except OSError as error:
            if isinstance(error, requests.RequestException):
                raise
            raise JebmError(
                f"{error.filename or path.parent}: can't be written to ({error.strerror or error}); "
                f"the asset '{name}' belongs at {path}"
            ) from None
        remember(asset, digests)
        say(f"{path}: fetched")
    digests.save_large()
    return path


def _fetch_checked(name: str, asset: Asset, digests: DigestCache, pause: float) -> None:
    partial = asset.path.with_name(f"{asset.path.name}.partial")
    resumed = partial.exists() and partial.stat().st_size > 0
    _fetch_whole(name, asset, partial, pause)
    try:
        verify(name, asset, digests, partial)
    except JebmError as error:
        partial.unlink()
        if resumed:  # perhaps the beginning was of another version
            say(f"{name}: what was resumed is not the asset; fetching all of it again")
            return _fetch_checked(name, asset, digests, pause)
        message = str(error).replace("the file was left alone, move it away and fetch it again", "it was not kept")
        raise JebmError(f"{asset.url} sent something else. {message}") from None
    os.replace(partial, asset.path)


def _fetch_whole(name: str, asset: Asset, partial: Path, pause: float) -> None:
    """Get all bytes into the partial file; attempts that bring nothing are counted."""
    progress, left = Progress(f"{name}: {asset.url}"), ATTEMPTS
    while True:
        before = _size(partial)
        try:
            return _resume(asset, partial, progress)
        except (requests.RequestException, BrokenOffError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            left = ATTEMPTS - 1 if _size(partial) > before else left - 1
            if left == 0 or (status is not None and status not in PASSING):
                raise JebmError(f"the asset '{name}' can't be fetched: {_reason(error)}; {by_hand(asset)}") from None
            wait = pause * 2 ** (ATTEMPTS - 1 - left)
            say(f"{name}: {_reason(error)}; trying again in {wait:.0f} s from byte {_size(partial):,} on")
            time.sleep(wait)


def _resume(asset: Asset, partial: Path, progress: Callable[[str, int, int], None]) -> None:
    have = _size(partial)
    if have and have == asset.bytes:
        return
    # As it is: ranges of a compressed answer would be ranges of something else.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(asset.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            partial.unlink()
            raise BrokenOffError("the server has nothing after what was fetched before")
        answer.raise_for_status()
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise JebmError(
                f"{asset.url}: answers with a web page instead of the file (a quota, or a log-in); {by_hand(asset)}"
            )
        start = _range_start(answer) if answer.status_code == requests.codes.partial_content else 0
        have = have if start == have else 0
        total = have + int(answer.headers.get("Content-Length", 0)) or asset.bytes or 0
        with open(partial, "ab" if have else "wb") as file:
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress("MiB", have >> 20, max(total, have) >> 20)
            file.flush()
            os.fsync(file.fileno())
    if have < total:
        raise BrokenOffError(f"the server broke off after {have:,} of {total:,} bytes")


def _range_start(answer: requests.Response) -> int:
    """The first byte of a partial answer; −1 where it does not say."""
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError):
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.ConnectionError | requests.Timeout) and not isinstance(
        error, requests.exceptions.ChunkedEncodingError
    ):
        return "no connection to the server (is there a network?)"
    return "the server broke off" if isinstance(error, requests.RequestException) else str(error)
