"""Fetching assets from a server on this machine that behaves, breaks off, lies, or is not there."""

import hashlib
import http.server
import os
import shutil
import tempfile
import threading

import pytest
import requests
from torchvision.datasets import CIFAR10, MNIST, SVHN, CelebA, FashionMNIST

from jebm.config.assets import Asset
from jebm.config.read import read_params
from jebm.errors import JebmError
from jebm.io.digests import DigestCache
from jebm.pipeline.assets import VerifiedAssets, inventory, verify
from jebm.pipeline.download import fetch

CONTENT = bytes(range(256)) * 4000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; the switches below make it worse. ``statuses`` are those of the next requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.statuses, self.sent, self.type = 0, [], None, "application/x-tar"
        self.content = CONTENT
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests += 1
        if server.statuses:
            return self.send_error(server.statuses.pop(0))
        self.send_response(200)
        self.send_header("Content-Type", server.type)
        self.send_header("Content-Length", str(len(server.content)))
        self.end_headers()
        self.wfile.write(server.content[: server.sent])
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def asset(server=None, **changes):
    url = server.url if server else None
    return Asset(**{"file": "set/raw.tar.gz", "url": url, "bytes": len(CONTENT), "digest": DIGEST, **changes})


def left_behind():
    return sorted(path.name for path in os.scandir("assets/set"))


def test_file_is_fetched_once(server):
    one = asset(server)
    assert fetch("raw", one).read_bytes() == CONTENT
    fetch("raw", one)
    assert server.requests == 1
    assert left_behind() == ["raw.tar.gz"]


def test_other_content_is_refused_with_both_digests_and_not_kept(server):
    server.content = bytes(len(CONTENT))
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(JebmError, match=rf"its digest is sha256:{found}, expected is {DIGEST}; it was not kept"):
        fetch("raw", asset(server))
    assert left_behind() == []


def test_short_content_is_refused(server):
    server.content = CONTENT[:500]
    with pytest.raises(JebmError, match=r"truncated: has 500 bytes, the asset 'raw' has 1,024,000 \(digest sha256:"):
        fetch("raw", asset(server))
    assert left_behind() == []


def test_web_page_instead_of_the_file_is_refused(server):
    server.type = "text/html; charset=utf-8"
    with pytest.raises(JebmError, match=r"answers with a web page instead of the file.*put the file from http"):
        fetch("raw", asset(server))
    assert left_behind() == []


def test_status_that_does_not_pass_ends_at_once(server):
    server.statuses = [404]
    with pytest.raises(JebmError, match=r"the server answers 404 Not Found; put the file from .* at assets/set/raw"):
        fetch("raw", asset(server))
    assert server.requests == 1


def test_status_that_may_pass_is_tried_again(server):
    server.statuses = [503]
    assert fetch("raw", asset(server), backoff=0).read_bytes() == CONTENT
    assert server.requests == 2


def test_server_that_breaks_off_leaves_nothing_behind(server):
    server.sent = 300_000
    with pytest.raises(JebmError, match=r"the server broke off; try again; put the file from"):
        fetch("raw", asset(server))
    assert left_behind() == []


def test_no_network_says_where_the_file_goes(server):
    one = asset(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(JebmError) as error:
        fetch("raw", one, backoff=0)
    message = str(error.value)
    assert "no connection to the server (is there a network?)" in message
    assert f"put the file from {one.url} at assets/set/raw.tar.gz, whose digest must be {DIGEST}" in message
    assert "\n" not in message


def test_asset_without_url_says_how_to_place_it():
    with pytest.raises(JebmError, match=r"can't be fetched: put the file at assets/set/raw.tar.gz, .* \(ask Bob\)"):
        fetch("raw", asset(note="ask Bob"))


@pytest.mark.parametrize("content", [CONTENT[:-1], b"x" * len(CONTENT)], ids=["truncated", "wrong"])
def test_wrong_file_in_place_is_refused_and_left_alone(server, content):
    os.makedirs("assets/set")
    with open("assets/set/raw.tar.gz", "wb") as file:
        file.write(content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(JebmError, match=rf"(?s)sha256:{found}.*expected.*{DIGEST}.*the file was left alone"):
        fetch("raw", asset(server))
    with open("assets/set/raw.tar.gz", "rb") as file:
        assert file.read() == content
    assert server.requests == 0


def test_folder_that_cannot_be_written_to_is_named(server, monkeypatch):
    place = tempfile.mkdtemp()  # below folders that anybody may enter
    monkeypatch.chdir(place)
    os.makedirs("assets/set")
    os.chmod("assets/set", 0o555)
    root = os.geteuid() == 0  # whom no permission stops
    if root:
        for folder in (".", "assets"):
            os.chmod(folder, 0o777)
        os.seteuid(65534)
    try:
        with pytest.raises(
            JebmError, match=r"assets/set: can't be written to \(Permission denied\); the asset 'raw' belongs there"
        ):
            fetch("raw", asset(server))
    finally:
        if root:
            os.seteuid(0)
        os.chmod("assets/set", 0o755)
    assert left_behind() == []
    shutil.rmtree(place)


def test_digest_that_nobody_published_is_remembered(server):
    one = asset(server, digest=None, bytes=None)
    fetch("raw", one)
    assert one.expected == DIGEST
    os.remove(one.path)
    server.content = CONTENT[::-1]
    with pytest.raises(JebmError, match=f"expected is {DIGEST}"):
        fetch("raw", one)


def test_component_gets_only_what_is_the_asset():
    files = VerifiedAssets({"raw": asset()})
    with pytest.raises(JebmError, match=r"assets/set/raw.tar.gz: the asset 'raw' is missing: put the file at assets"):
        files("raw")
    with pytest.raises(JebmError, match=r"is missing; `jebm fetch-asset raw` fetches it where there is a network"):
        VerifiedAssets({"raw": asset(url="http://example.org")})("raw")
    os.makedirs("assets/set")
    with open("assets/set/raw.tar.gz", "wb") as file:
        file.write(CONTENT)
    assert files("raw").read_bytes() == CONTENT


def test_inventory_tells_what_is_missing_from_what_is_wrong():
    entries = {name: asset(file=f"set/{name}") for name in ("there", "other", "gone")}
    os.makedirs("assets/set")
    for name, content in {"there": CONTENT, "other": b"?"}.items():
        with open(f"assets/set/{name}", "wb") as file:
            file.write(content)
    lines = inventory(entries, DigestCache()).splitlines()
    assert [line.split()[0] for line in lines] == ["there", "other", "gone", "still"]
    assert [any(s in line for s in ("in place", "wrong or", "missing")) for line in lines] == [True, True, True, False]
    assert "1.0 MB  wrong or truncated" in lines[1]
    assert "2.0 MB" in lines[3]


def test_digest_is_not_computed_twice(monkeypatch):
    os.makedirs("assets/set")
    with open("assets/set/raw.tar.gz", "wb") as file:
        file.write(CONTENT)
    digests = DigestCache()
    verify("raw", asset(), digests)
    digests.save()
    monkeypatch.setattr("jebm.io.digests._digest", None)
    verify("raw", asset(), DigestCache())


def test_published_digests_are_those_of_torchvision(request):
    known = {name: entry.digest for name, entry in read_params(request.config.rootpath / "params.yaml").assets.items()}
    parts = ("train-images", "train-labels", "test-images", "test-labels")
    expected = {"cifar10": CIFAR10.tgz_md5}
    expected |= {f"svhn-{split}": md5 for split, (_, _, md5) in SVHN.split_list.items()}
    for name, data in {"mnist": MNIST, "fashion-mnist": FashionMNIST}.items():
        expected |= {f"{name}-{part}": md5 for part, (_, md5) in zip(parts, data.resources, strict=True)}
    celeba = {file: md5 for _, md5, file in CelebA.file_list}
    expected |= {"celeba-images": celeba["img_align_celeba.zip"]}
    expected |= {"celeba-partition": celeba["list_eval_partition.txt"]}
    assert {name: known[name] for name in expected} == {name: f"md5:{md5}" for name, md5 in expected.items()}
    others = {name for name in set(known) - set(expected) if known[name]}
    assert others == {"inception", "inception-pytorch"}


def test_urls_are_those_of_torchvision_and_sizes_are_given(request):
    assets = read_params(request.config.rootpath / "params.yaml").assets
    assert assets["cifar10"].url == CIFAR10.url
    assert all(assets[f"svhn-{split}"].url == url for split, (url, _, _) in SVHN.split_list.items())
    assert assets["mnist-train-images"].url == MNIST.mirrors[0] + MNIST.resources[0][0]
    assert assets["fashion-mnist-test-labels"].url == FashionMNIST.mirrors[0] + FashionMNIST.resources[3][0]
    assert assets["celeba-images"].url.endswith(CelebA.file_list[0][0])
    by_hand = {name for name, asset in assets.items() if asset.url is None}
    assert by_hand == {"nvae-cifar10", "nvae-celebahq256", "nvae-church64"}  # whose owner's licence is to be read first
    assets = {name: asset for name, asset in assets.items() if name not in by_hand}
    assert all(asset.bytes for asset in assets.values())
    assert all(requests.utils.urlparse(asset.url).scheme in ("http", "https") for asset in assets.values())
