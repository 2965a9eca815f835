"""The block `assets` and the components that name its entries: what is refused, and what enters a stage's identity."""

from copy import deepcopy

import pytest
import toy
import yaml
from workspace import raw_params

from jebm.config.assets import Asset, with_asset_paths
from jebm.config.read import parse_params
from jebm.errors import ParamsError
from jebm.pipeline.assets import VerifiedAssets
from jebm.pipeline.jobs import study_jobs
from jebm.pipeline.study import make_plan

ENTRY = {"file": "cifar10/raw.tar.gz", "url": None, "bytes": 7, "digest": "md5:" + "1" * 32}
IMAGES = {"name": "images", "source": {"name": "cifar10"}, "size": 32}


def plan(**changes):
    blocks = deepcopy({"assets": {"cifar10": ENTRY}, "toy/dataset": IMAGES})
    params = parse_params(toy.params({**blocks, **changes}))
    return make_plan(params)["toy"]


def dataset_job(plan):
    return next(job for job in study_jobs(plan) if job.rule == "prepare_dataset")


def test_asset_is_an_input_of_the_job_that_reads_it_and_of_no_other():
    jobs = list(study_jobs(plan()))
    assert dataset_job(plan()).inputs == {"outside": ("assets/cifar10/raw.tar.gz",)}
    assert [job.rule for job in jobs if "assets/cifar10/raw.tar.gz" in job.input_files] == ["prepare_dataset"]
    assert plan().asset_names() == ["cifar10"]


def test_digest_of_an_asset_is_part_of_the_identity_and_its_place_is_not():
    first = plan().variants["joint"].dataset
    moved = plan(**{"assets/cifar10/file": "elsewhere/raw.tar.gz", "assets/cifar10/url": "http://localhost/x"})
    other = plan(**{"assets/cifar10/digest": "md5:" + "2" * 32})
    assert moved.variants["joint"].dataset.id == first.id
    assert other.variants["joint"].dataset.id != first.id


def test_study_without_assets_has_the_identities_that_it_had():
    without = make_plan(parse_params(toy.params()))["toy"].variants["joint"]
    beside = make_plan(parse_params(toy.params({"assets": {"cifar10": ENTRY}})))["toy"].variants["joint"]
    assert (beside.dataset.id, beside.prior.id) == (without.dataset.id, without.prior.id)
    assert "assets" not in without.dataset.spec


def test_folder_of_the_data_is_named_after_the_source():
    assert str(plan().variants["joint"].dataset.folder).startswith("data/cifar10-")


def test_pictures_of_the_user_are_an_input(tmp_path):
    source = {"name": "folder", "path": str(tmp_path)}
    assert dataset_job(plan(**{"toy/dataset/source": source})).inputs == {"outside": (str(tmp_path),)}


def test_outlier_sources_are_inputs_too():
    outliers = {"own": {"name": "folder", "path": "pictures"}, "cifar": {"name": "cifar10"}}
    job = dataset_job(plan(**{"toy/dataset/outliers": outliers}))
    assert job.inputs == {"outside": ("assets/cifar10/raw.tar.gz", "pictures")}
    assert "jebm.data.sources.folder" in job.entries


def test_component_may_be_given_paths_instead_of_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "assets/cifar10/raw.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"content")
    source = plan().variants["joint"].params.dataset.source
    files = VerifiedAssets({"cifar10": Asset(**ENTRY | {"digest": None})})
    assert with_asset_paths(source, files).archive == "assets/cifar10/raw.tar.gz"
    assert source.archive == "cifar10"


@pytest.mark.parametrize(
    ("page", "variant", "path"),
    [("image-studies", "two-stage", "pictures.zip")],
)
def test_examples_of_the_documentation_are_studies(request, page, variant, path):
    root = request.config.rootpath
    block = (root / f"docs/{page}.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    params = raw_params(root) | {"pictures": yaml.safe_load(block)}
    study = make_plan(parse_params(params))["pictures"]
    assert dataset_job(study).inputs == {"outside": (path,)}
    assert str(study.variants[variant].dataset.folder).startswith("data/folder-")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"toy/dataset/source/archive": "cifar"}, "'cifar' is no asset; did you mean 'cifar10'? allowed: cifar10"),
        ({"assets": {}}, "'cifar10' is no asset"),
        ({"assets/cifar10/digest": "md5:123"}, "assets.cifar10.digest: must be md5: or sha256:"),
        ({"assets/cifar10/digest": "c58f30108f718f92721af3b95e74349a"}, "must be md5: or sha256:"),
        ({"assets/cifar10/file": "../raw.tar.gz"}, "assets.cifar10.file: must be a path below assets/"),
        ({"assets/cifar10/file": "/raw.tar.gz"}, "must be a path below assets/"),
        ({"assets/cifar10/md5": "x"}, "assets.cifar10.md5: unknown key"),
        ({"toy/dataset/source/name": "cifar"}, "toy.dataset.source.name: 'cifar' is unknown; did you mean 'cifar10'?"),
        ({"toy/dataset/source/path": "x"}, "toy.dataset.source.path: unknown key; allowed: name, archive"),
        ({"toy/dataset/outliers": {"x": {"name": "svh"}}}, "toy.dataset.outliers.x.name: 'svh' is unknown"),
        ({"toy/dataset/outliers": {"x": {}}}, "toy.dataset.outliers.x.name: is required, but missing"),
        ({"toy/dataset/bits": 7}, "toy.dataset.bits"),
        ({"toy/dataset/mode": "gray"}, "toy.dataset.mode: 'gray' is unknown; did you mean 'grey'?"),
        ({"toy/dataset/ood_sets": ["noise"]}, "'noise' is unknown"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ParamsError) as error:
        plan(**changes)
    assert message in str(error.value)
