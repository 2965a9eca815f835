"""Results travel through an S3 bucket, here of a server on this machine. Skipped without moto and dvc-s3."""

import pytest
import requests

pytest.importorskip("dvc_s3", reason="pip install 'dvc[s3]' 'moto[s3,server]'")
server = pytest.importorskip("moto.server", reason="pip install 'dvc[s3]' 'moto[s3,server]'")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture
def bucket(monkeypatch):
    """The address of a server of S3 with an empty bucket ``store``."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    address = f"http://{host}:{port}"
    requests.put(f"{address}/store", timeout=60).raise_for_status()
    yield address
    running.stop()


def test_what_was_pushed_is_pulled_and_nothing_runs_again(new_tiny, tmp_path, bucket):
    (tmp_path / "origin").mkdir()
    space = new_tiny(tmp_path / "origin")
    params = space.params()
    study = params["digits"]
    study["variants"] = {"gaussian": study["variants"]["gaussian"]}
    study["tables"] = {"main": {"variants": ["gaussian"], "metrics": ["fd"]}}
    study["figures"], study["headline"] = {}, {}
    space.write_params(params)
    for command in (
        ["git", "init", "--quiet", "--initial-branch", "main"],
        ["git", "config", "user.email", "test@example.com"],
        ["git", "config", "user.name", "test"],
        ["dvc", "init", "--quiet"],
        ["dvc", "remote", "add", "--default", "storage", "s3://store/jebm"],
        ["dvc", "remote", "modify", "storage", "endpointurl", bucket],
        ["dvc", "repro", "--quiet"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", "results"],
        ["dvc", "push", "--quiet"],
    ):
        space.run(*command)
    assert "<Key>jebm/files/md5/" in requests.get(f"{bucket}/store?list-type=2", timeout=60).text
    space.run("git", "clone", "--quiet", str(space.folder), str(tmp_path / "clone"))
    clone = type(space).__new__(type(space))
    clone.folder = tmp_path / "clone"
    clone.run("dvc", "pull", "--quiet")
    dry = clone.run("snakemake", "-n", "--cores", "1")
    assert "Nothing to be done" in dry.stdout + dry.stderr
    assert "all their files are what their records say" in clone.run("jebm", "verify").stdout
