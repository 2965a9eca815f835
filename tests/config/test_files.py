"""Which files hold the parameters, and what a message calls them."""

from pathlib import Path

import pytest
import yaml
from toy import TEXT, params

from jebm.config.files import VARIABLE, choose_params_file, current_params_file
from jebm.config.read import parse_params, read_params
from jebm.errors import ParamsError

ROOT = Path(__file__).parents[2]
CHILD = {"extends": "toy", "variants": {"v": {}}, "tables": {}, "figures": {}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder to run in; returns what writes files into it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)

    def write(files):
        for name, content in files.items():
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")

    return write


def complaint(*arguments):
    with pytest.raises(ParamsError) as error:
        read_params(*arguments)
    return str(error.value)


def test_folder_beside_the_file_holds_a_study_in_each_file_and_the_assets(project):
    asset = {"file": "a/b.zip"}
    project({"params.yaml": TEXT, "params/child.yaml": CHILD, "params/assets.yaml": {"b": asset}})
    found = read_params()
    assert list(found.studies) == ["toy", "child"]
    assert list(found.assets) == ["b"]
    assert found == parse_params(params({"child": CHILD, "assets": {"b": asset}}))


def test_another_file_has_its_own_folder_and_nothing_else(project, monkeypatch):
    project({"params.yaml": TEXT, "params/child.yaml": CHILD, "mine.yaml": TEXT})
    assert list(read_params(Path("mine.yaml")).studies) == ["toy"]
    project({"mine/other.yaml": CHILD})
    monkeypatch.setenv(VARIABLE, "mine.yaml")
    assert list(read_params().studies) == ["toy", "other"]


def test_file_of_this_process_is_named_as_seen_from_its_folder(project, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    assert current_params_file() == Path("params.yaml")
    choose_params_file(tmp_path / "mine.yaml")
    assert current_params_file() == Path("mine.yaml")
    choose_params_file(Path("/elsewhere/mine.yaml"))
    assert current_params_file() == Path("/elsewhere/mine.yaml")


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("toy", CHILD, "params/toy.yaml: 'toy' also stands in params.yaml; remove one of the two"),
        ("runtime", {}, "params/runtime.yaml: 'runtime' also stands in params.yaml"),
        ("presets", {}, "params/presets.yaml: 'presets' is a block of params.yaml itself and no study"),
        ("child", "", "params/child.yaml: must be a block of settings, not None"),
        ("child", "a: 1\nb: 2\na: 3\n", "params/child.yaml: not valid YAML: line 3: the key 'a' stands twice"),
        ("child", CHILD | {"train_prior": {"stps": 3}}, "params/child.yaml: train_prior.stps: unknown key; did"),
        ("child", CHILD | {"variants": {"v": {"prior": {"nme": 3}}}}, "params/child.yaml: variants.v.prior.nme: unk"),
        ("child", CHILD | {"variants": {"v": {"like": "w"}}}, "params/child.yaml: variants.v.like: there is no 'w'"),
        ("child", CHILD | {"extends": "tyo"}, "params/child.yaml: extends: 'tyo' is no study; did you mean 'toy'?"),
        ("child", CHILD | {"extends": "child"}, "params/child.yaml: extends: 'child' extends this study itself"),
        ("child", CHILD | {"bakbone": {}}, "params/child.yaml: bakbone: unknown key; did you mean 'backbone'?"),
        ("child", CHILD | {"tables": {"t": {"best": "x", "metrics": ["fd"]}}}, "params/child.yaml: tables.t.best"),
        ("assets", {"b": {"file": "/b"}}, "params/assets.yaml: b.file: must be a path below assets/"),
        ("assets", [1], "params/assets.yaml: must be a block of settings, not [1]"),
    ],
)  # fmt: skip
def test_message_names_the_file_and_the_key_in_it(project, file, content, expected):
    project({"params.yaml": TEXT, f"params/{file}.yaml": content})
    message = complaint()
    assert message.startswith(expected)
    assert "\n" not in message


def test_pipeline_of_dvc_reads_every_file_of_parameters():
    """By the folder, so that the file of a study of one's own needs no entry."""
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    stage = pipeline["stages"]["reproduce"]
    assert stage["params"] == [{"params.yaml": None}]
    assert "params" in stage["deps"]
    assert pipeline["params"] == ["params.yaml", "params"]


def test_main_file_is_short_and_no_file_has_anchors():
    assert len((ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()) <= 250
    for path in [ROOT / "params.yaml", *(ROOT / "params").glob("*.yaml")]:
        tokens = yaml.scan(path.read_text(encoding="utf-8"))
        assert not [token for token in tokens if isinstance(token, (yaml.AnchorToken, yaml.AliasToken))], path
