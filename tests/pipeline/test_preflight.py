"""Settings that can't work are refused by what is known of the data before anything runs."""

import archives
import pytest
import toy

from jebm.config.read import parse_params
from jebm.errors import ParamsError
from jebm.pipeline import preflight
from jebm.pipeline.preflight import refuse_impossible, refuse_missing_devices
from jebm.pipeline.study import make_plan


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return archives.folder(tmp_path_factory.mktemp("pictures") / "40", count=40)


def plan_of(dataset=None, **changes):
    """The toy study with other data, and with keys such as ``train_backbone/batch_size`` changed."""
    changed = {"dataset": dataset, "features": {"name": "identity"}} if dataset else {}
    return make_plan(parse_params(toy.params({f"toy/{key}": value for key, value in (changed | changes).items()})))[
        "toy"
    ]


def images(path, **settings):
    return {"name": "images", "source": {"name": "folder", "path": str(path)}, "size": 2, "mode": "grey", **settings}


GOOD = {"validation_count": 5, "test_count": 10}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"validation_count": 5, "test_count": 40}, "toy.dataset.test_count: 40 of the 40 images that are left"),
        ({"validation_count": 30, "test_count": 10}, "toy.dataset.validation_count: 30 of the 30 images that are left"),
        ({"validation_count": 5}, "toy.dataset.test_count: the data have no test split of their own"),
        ({**GOOD, "size": 4}, "toy.dataset.test_count: 10 images are too few for a Fréchet distance in 16 features"),
        ({**GOOD, "train_count": 4}, "toy.dataset.train_count: 4 images to train on are too few"),
    ],
)
def test_splits_that_leave_too_little_are_named(pictures, settings, expected):
    with pytest.raises(ParamsError) as error:
        refuse_impossible(plan_of(images(pictures, **settings)))
    assert expected in str(error.value)


def test_a_batch_of_more_images_than_there_are(pictures):
    plan = plan_of(images(pictures, **GOOD), **{"train_backbone/batch_size": 26})
    with pytest.raises(ParamsError, match=r"toy.train_backbone.batch_size: is 26, but there are 25 images to train on"):
        refuse_impossible(plan)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: None, "there is no folder and no zip file"),
        (lambda path: path.mkdir(), "holds no image; known suffixes"),
        (lambda path: path.write_text("text"), "is neither a folder nor a zip file"),
    ],
    ids=["missing", "empty", "text"],
)
def test_a_folder_without_images(tmp_path, make, expected):
    make(tmp_path / "pictures")
    with pytest.raises(ParamsError, match=r"params\.yaml: toy\.dataset\.source\.path: .*" + expected):
        refuse_impossible(plan_of(images(tmp_path / "pictures", **GOOD)))


def test_features_that_need_labels(pictures):
    plan = plan_of(images(pictures, **GOOD), features={"name": "classifier"})
    with pytest.raises(ParamsError, match="'classifier' needs labelled images, which images of the source 'folder'"):
        refuse_impossible(plan)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("toy/dataset", images("~/pictures", **GOOD), "'~' is not replaced here; write the whole path: /"),
        ("toy/compute", {"device": "gpu"}, "must be cpu, cuda, one of several GPUs such as cuda:1, or mps"),
    ],
)
def test_what_the_parameters_alone_show(path, value, expected):
    with pytest.raises(ParamsError, match=expected):
        parse_params(toy.params({path: value}))


def test_a_device_that_is_not_here(monkeypatch):
    plan = plan_of(compute={"device": "cuda:1"})
    preflight.device_problem.cache_clear()
    monkeypatch.setattr(preflight, "_gpus", lambda: 0)
    with pytest.raises(ParamsError, match=r"toy\.compute\.device: is 'cuda:1', but the driver finds no GPU"):
        refuse_missing_devices(plan)
    preflight.device_problem.cache_clear()
    monkeypatch.setattr(preflight, "_gpus", lambda: 1)
    with pytest.raises(ParamsError, match="this machine has 1 GPUs, which count from 0"):
        refuse_missing_devices(plan)
    preflight.device_problem.cache_clear()
    refuse_missing_devices(plan_of())


def test_bundled_data_are_known():
    with pytest.raises(ParamsError, match=r"dataset\.test_count: 1797 of the 1797 images"):
        refuse_impossible(plan_of(dataset={"name": "digits", "test_count": 1797}, features={"name": "classifier"}))
