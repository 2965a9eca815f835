"""What is written from the types for readers and for editors: docs/parameters.md and params.schema.json."""

import inspect
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from toy import params

from jebm.config.catalogue import COMPONENTS
from jebm.config.json_schema import json_schema, sections
from jebm.config.meanings import arguments, meanings
from jebm.config.reference import reference
from jebm.config.schema import Params, Study

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_committed_schema_is_the_one_of_the_types():
    committed = json.loads((ROOT / "params.schema.json").read_text(encoding="utf-8"))
    assert committed == json_schema(), "run `jebm schema > params.schema.json`"


def test_committed_reference_is_the_one_of_the_types():
    committed = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
    assert committed == reference(), "run `jebm parameters > docs/parameters.md`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_schema_accepts_every_file_of_the_repository_and_is_named_in_it(path, validator):
    text = path.read_text(encoding="utf-8")
    validator.validate(yaml.safe_load(text))
    folder = "" if path.parent == ROOT else "../"
    assert text.startswith(f"# yaml-language-server: $schema={folder}params.schema.json\n")


def test_schema_accepts_a_file_of_several_studies(validator):
    validator.validate(params({"other": {"extends": "toy", "variants": {"v": {"like": "w"}, "w": {}}}}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("toy/bakbone", {}),
        ("toy/train_prior/stps", 3),
        ("toy/train_prior/steps", "many"),
        ("toy/train_prior/steps", 0),
        ("toy/train_prior/ema", 1.5),
        ("toy/train_prior/schedule", "cos"),
        ("toy/draw_samples/sampler/name", "chian"),
        ("toy/variants/joint", {"draw_samples": {"sampler": {"stpes": 3}}}),
        ("toy/variants/joint", {"like": 3}),
        ("toy/variants/joint", {"extends": "toy"}),
        ("toy/presets", {"a": {"pior": {}}}),
        ("toy/tables/main/colums", ["fd"]),
        ("toy/figures/sample", ["joint"]),
        ("toy/prior/energy/layers", "both"),
        ("runtime/checkpoint_second", 3),
        ("assets", {"a": {"fil": "x"}}),
        ("toy/seeds", [-1]),
    ],
)
def test_schema_refuses_a_mistake(key, value, validator):
    assert not validator.is_valid(params({key: value}))


def test_schema_refuses_mistyped_keys_in_the_files_of_studies_and_assets(validator):
    study = yaml.safe_load((ROOT / "params/depth.yaml").read_text(encoding="utf-8"))
    assert not validator.is_valid(study | {"bakbone": {}})
    assets = yaml.safe_load((ROOT / "params/assets.yaml").read_text(encoding="utf-8"))
    assert not validator.is_valid({name: block | {"byte": 3} for name, block in assets.items()})


def test_every_key_has_a_meaning():
    """That of a component says it in its docstring, that of another block in the string below the field."""
    read_otherwise = {(Params, "studies"), (Study, "base")}
    missing = [
        f"{model.__name__}.{key}"
        for model in sections(Params)
        for key in sorted(set(model.model_fields) - set(meanings(model)))
        if not (model.target and key == "name") and (model, key) not in read_otherwise
    ]
    assert not missing


def test_every_component_is_described_under_a_name_of_its_own():
    models = sections(Params)
    assert len({model.__name__ for model in models}) == len(models)
    assert {target for names in COMPONENTS.values() for target in names.values()} <= {model.target for model in models}


def test_arguments_are_read_from_a_docstring():
    text = """Does something.

    Args:
        a: the first one: with a colon.
        b, c: two at once,
            over two lines.

    Raises:
        ValueError: never.
    """
    both = "two at once, over two lines."
    expected = {"a": "the first one: with a colon.", "b": both, "c": both}
    assert arguments(inspect.cleandoc(text)) == expected
