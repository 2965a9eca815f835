"""Downloads an asset next to its place, verifies it, and moves it there by a rename.

A file that is already in place is verified and never replaced. Connections are retried by urllib3; an interrupted
download is not resumed.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from requests.adapters import HTTPAdapter, Retry

from jebm.config.assets import Asset
from jebm.errors import JebmError
from jebm.io.digests import DigestCache
from jebm.pipeline.assets import manual_instructions, remember, verify
from jebm.runtime.progress import Progress, log

CHUNK = 2**18
TIMEOUT = (15, 60)
"""Seconds to connect, and between two arrivals of data."""
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses for which another attempt may succeed."""


def fetch(name: str, asset: Asset, backoff: float = 1.0) -> Path:
    """Bring an asset to its place, or verify the file that is there.

    Args:
        backoff: seconds between attempts to connect, doubled each time; the second attempt follows at once.

    Raises:
        JebmError: the file in place is another one, the server can't be reached or sends something else, or the folder
            can't be written to. The message says what the file must be and where it belongs.
    """
    digests, path = DigestCache(), asset.path
    if path.exists():
        verify(name, asset, digests)
        log(f"{path}: in place")
    elif asset.url is None:
        raise JebmError(f"the asset '{name}' can't be fetched: {manual_instructions(asset)}")
    else:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
                new = Path(folder) / path.name
                _download(name, asset, new, backoff)
                _check(name, asset, digests, new)
                os.replace(new, path)
        except requests.RequestException as error:
            raise JebmError(
                f"the asset '{name}' can't be fetched: {_reason(error)}; {manual_instructions(asset)}"
            ) from None
        except OSError as error:
            reason = error.strerror or error
            raise JebmError(
                f"{path.parent}: can't be written to ({reason}); the asset '{name}' belongs there"
            ) from None
        log(f"{path}: fetched")
    remember(asset, digests)
    digests.save_large()
    return path


def _download(name: str, asset: Asset, path: Path, backoff: float) -> None:
    retries = Retry(total=4, backoff_factor=backoff, status_forcelist=TRANSIENT, raise_on_status=False)
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retries))
        # The server must not compress the file for the transfer.
        with session.get(asset.url, headers={"Accept-Encoding": "identity"}, stream=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                raise JebmError(
                    f"{asset.url}: answers with a web page instead of the file (a quota, or a log-in); "
                    f"{manual_instructions(asset)}"
                )
            total, progress = int(answer.headers.get("Content-Length", 0)), Progress(f"{name}: {asset.url}")
            with open(path, "wb") as file:
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    progress("MiB", file.tell() >> 20, max(total, file.tell()) >> 20)


def _check(name: str, asset: Asset, digests: DigestCache, path: Path) -> None:
    try:
        verify(name, asset, digests, path)
    except JebmError as error:
        message = str(error).replace("the file was left alone, move it away and fetch it again", "it was not kept")
        raise JebmError(f"{asset.url} sent something else. {message.replace(str(path), str(asset.path))}") from None


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError):
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the server broke off; try again"
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return "no connection to the server (is there a network?)"
    return str(error)
