"""``jebm new pictures``: settings that follow from what is in a folder."""

import archives
import pytest
import toy
import yaml
from typer.testing import CliRunner

from jebm.cli import survey as survey_module
from jebm.cli.main import app
from jebm.cli.survey import Survey, choose, look, needed
from jebm.config.read import read_params
from jebm.errors import JebmError
from jebm.pipeline.preflight import refuse_impossible
from jebm.pipeline.study import make_plan


def survey(count, grey=False, sides=(64, 64), unreadable=0):
    return Survey(None, count, sides, grey, False, ("broken.png",) * unreadable, 100, 0.001)


@pytest.mark.parametrize(
    ("count", "grey", "size", "channels"),
    [(3786, False, 16, 3), (1500, False, 12, 3), (700, False, 8, 3), (300, False, 8, 1), (900, True, 16, 1)],
)
def test_the_size_is_the_largest_for_which_there_are_enough_pictures(count, grey, size, channels):
    choice = choose(survey(count, grey))
    assert (choice.size, choice.channels) == (size, channels)
    assert choice.train + choice.validation + choice.test == count
    assert min(choice.test, choice.train) >= needed(channels * size**2)
    assert choice.settings()["batch"] <= choice.train


@pytest.mark.parametrize("count", [220, 260, 400, 700, 1500, 3786, 100_000])
def test_numbers_of_steps_and_images_are_whole(count):
    settings = choose(survey(count)).settings()
    for name in ("steps", "batch", "epochs", "samples", "validation", "test", "train"):
        assert type(settings[name]) is int, name
    assert 500 <= settings["steps"] <= 3000


def test_too_few_pictures_are_refused():
    with pytest.raises(JebmError, match="150 readable pictures are too few: at 8 pixels in grey"):
        choose(survey(150))


def test_small_and_damaged_pictures_change_the_settings():
    settings = choose(survey(1000, grey=True, sides=(10, 20), unreadable=5)).settings()
    assert (settings["upscale"], settings["unreadable"]) == ("true", 0.11)


def test_a_look_at_a_folder_and_at_a_zip_file_tells_the_same(tmp_path):
    found = look(archives.folder(tmp_path / "pictures", count=12, mode="LA"))
    assert (found.count, found.sides, found.grey, found.transparent, found.unreadable) == (12, (40, 40), True, True, 0)
    assert look(archives.zipped(tmp_path / "pictures.zip", count=12, mode="LA")).found() == found.found()


def test_a_damaged_picture_is_found_and_named_beyond_those_that_are_decoded(tmp_path, monkeypatch):
    folder = archives.folder(tmp_path / "pictures", count=12)
    monkeypatch.setattr(survey_module, "LOOKED_AT", 3)
    broken = sorted(path for path in folder.rglob("*") if path.is_file())[1]
    broken.write_bytes(broken.read_bytes()[:60])
    found = look(folder)
    assert f"1 of 12 checked are unreadable ({broken.relative_to(folder)})" in found.found()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with another study, and 260 pictures."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(toy.params()), encoding="utf-8")
    (tmp_path / "params").mkdir()
    monkeypatch.chdir(tmp_path)
    archives.folder(tmp_path / "pictures", count=260, height=10, width=12)
    return tmp_path


def test_the_file_that_is_written_is_a_complete_study(project):
    done = CliRunner().invoke(app, ["new", "pictures", "pictures", "--study", "cats", "--seconds", "0.1"])
    assert done.exit_code == 0, (done.output, done.exception)
    params = read_params()
    assert set(params.studies) == {"toy", "cats"}
    base = params.studies["cats"].base
    assert (base.dataset.size, base.dataset.mode, base.dataset.source.path) == (8, "grey", "pictures")
    refuse_impossible(make_plan(params)["cats"])
    text = (project / "params/cats.yaml").read_text(encoding="utf-8")
    assert "extends" not in text
    assert set(params.studies["cats"].headline) == {"fd", "iw"}
    assert "grey, because in colour" in done.output
    assert "snakemake --cores all cats" in done.output
    assert "minutes on the" in done.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nothing-here"], "there is no folder and no zip file"),
        (["pictures", "--study", "all"], "--study: a study can't be called 'all', since a rule of Snakemake is"),
        (["pictures", "--study", "figures"], "since a rule of Snakemake is"),
        (["pictures", "--study", "assets_cats"], "since a rule of Snakemake is"),
        (["pictures", "--study", "runtime"], "since another block of the parameters is"),
        (["pictures", "--study", "my cats"], "its name must be letters, digits, underscores and hyphens"),
        (["pictures", "--study", "../cats"], "its name must be letters, digits, underscores and hyphens"),
    ],
    ids=" ".join,
)
def test_a_mistake_writes_nothing(project, words, expected):
    done = CliRunner().invoke(app, ["new", "pictures", *words])
    assert isinstance(done.exception, JebmError)
    assert expected in str(done.exception)
    assert not list((project / "params").iterdir())
