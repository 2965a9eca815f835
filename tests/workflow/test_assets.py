"""Assets through Snakemake: fetched from a local server, listed, never deleted; pictures decided by content."""

import hashlib
import http.server
import re
import threading
from functools import partial

import archives
import pytest
import yaml
from PIL import Image

STUDY = """
default_studies: [faces]
runtime: {fork_server: false}
faces:
  seeds: [1]
  dataset:
    {name: images, source: {name: folder, path: pictures}, size: 3, mode: grey, validation_count: 4, test_count: 12}
  features: {name: identity}
  backbone: {name: perceptron, latent_dims: [4, 2], hidden: 16}
  train_backbone: {steps: 4, batch_size: 4, learning_rate: 1.0e-3, kl_warmup: [[0.0, 0.5]], horizontal_flips: true}
  prior: {name: gaussian}
  train_prior: {steps: 1, batch_size: 4, learning_rate: 1.0e-3, estimator: null}
  draw_samples: {count: 12, sampler: {name: ancestral}}
  variants: {gaussian: {}}
  tables: {}
  figures: {}
"""
CIFAR = {"name": "images", "source": {"name": "cifar10"}, "size": 32, "validation_count": 5}


@pytest.fixture
def space(workspace):
    """A study of 40 pictures in a folder."""
    archives.folder(workspace.folder / "pictures", 40)
    workspace.write_params(yaml.safe_load(STUDY))
    return workspace


@pytest.fixture
def served(space, tmp_path_factory):
    """The study on CIFAR-10, whose archive a server has; the URL is in params.yaml."""
    root = tmp_path_factory.mktemp("server")
    entry = archives.cifar10(root)["cifar10"]
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(root / "assets"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    params = space.params()
    params["faces"]["dataset"] = CIFAR
    params["assets"] = {"cifar10": {**entry, "url": f"http://127.0.0.1:{server.server_address[1]}/{entry['file']}"}}
    space.write_params(params)
    yield space
    server.shutdown()


def dataset_target(space):
    listed = space.run("jebm", "list").stdout
    folder = next(word for word in listed.split() if word.startswith("data/"))
    return f"{folder}/images.safetensors"


def test_assets_are_listed_fetched_and_read(served):
    listed = served.run("snakemake", "--cores", "1", "assets")
    output = listed.stdout + listed.stderr
    assert output.index("0.2 MB  missing") < output.index("fetch_asset")
    path = served.folder / "assets/cifar10/cifar-10-python.tar.gz"
    expected = served.params()["assets"]["cifar10"]["digest"]
    assert f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}" == expected
    target = dataset_target(served)
    served.run("snakemake", "--cores", "1", target)
    assert (served.folder / target).exists()
    again = served.run("snakemake", "-n", target, "assets_faces")
    assert "Nothing to be done" in again.stdout + again.stderr
    assert "in place" in again.stdout + again.stderr


def test_wrong_file_in_place_is_refused_and_survives_even_force(served):
    path = served.folder / "assets/cifar10/cifar-10-python.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"put here by hand")
    target = dataset_target(served)
    for command in (["snakemake", "--cores", "1", target], ["snakemake", "--cores", "1", "-R", "fetch_asset", target]):
        failed = served.run(*command, check=False)
        assert failed.returncode != 0
        assert "truncated: has 16 bytes, the asset 'cifar10' has" in failed.stdout + failed.stderr
        assert path.read_bytes() == b"put here by hand"
        assert not (served.folder / target).exists()
    for command in (["snakemake", "--cores", "1", "assets_faces"], ["jebm", "assets", "faces"]):
        failed = served.run(*command, check=False)
        assert failed.returncode != 0
        told = failed.stdout + failed.stderr
        assert "wrong or truncated" in told
        assert re.search(r"has 16 bytes, the asset 'cifar10' has .*digest md5:\w{32}, expected md5:\w{32}", told)
        assert path.read_bytes() == b"put here by hand"


@pytest.mark.slow
def test_folder_of_pictures_is_read_again_only_when_its_content_changes(space):
    target = dataset_target(space)
    space.run("snakemake", "--cores", "1", target)
    pictures = space.folder / "pictures"
    (pictures / "0/0000.png").touch()
    assert "Nothing to be done" in space.run("snakemake", "-n", target).stdout
    Image.open(pictures / "0/0000.png").rotate(180).save(pictures / "0/0000.png")
    assert "data: pictures has other content" in space.run("jebm", "why", target).stdout
    assert "prepare_dataset" in space.run("snakemake", "-n", target).stdout


@pytest.mark.slow
def test_missing_pictures_are_one_sentence(space):
    (space.folder / "pictures").rename(space.folder / "photos")
    failed = space.run("snakemake", "--cores", "1", dataset_target(space), check=False)
    assert failed.returncode != 0
    assert "dataset.source.path: there is no folder and no zip file 'pictures'" in failed.stdout + failed.stderr


@pytest.mark.slow
def test_own_pictures_go_from_the_folder_to_samples(space):
    found = space.run("snakemake", "-n").stdout
    samples = next(word for word in found.replace(",", " ").split() if word.endswith("/samples.safetensors"))
    space.run("snakemake", "--cores", "1", samples)
    assert (space.folder / samples).exists()
    assert not list((space.folder / ".jebm/state").rglob("rows-*"))
