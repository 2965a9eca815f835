"""What studies, variants and tables take over from others: `extends`, `like` and presets, and mistakes in them."""

import pytest
from toy import params

from jebm.config.read import parse_params
from jebm.errors import ParamsError

STEPS = "toy/variants/joint-k40/draw_samples/sampler/steps"


def study(changes, name="toy"):
    return parse_params(params(changes), "my.yaml").studies[name]


def complaint(changes):
    with pytest.raises(ParamsError) as error:
        study(changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def steps(variant):
    return variant.draw_samples.sampler.steps


def test_variant_is_like_another_one():
    found = study({"toy/variants/again": {"like": "joint-k40", "train_prior": {"steps": 7}}}).variants
    assert steps(found["again"]) == 40
    assert found["again"].train_prior.steps == 7
    assert found["joint-k40"].train_prior.steps == 10


def test_later_names_are_laid_over_earlier_ones_and_own_keys_over_all():
    variants = {
        "a": {"draw_samples": {"sampler": {"steps": 1}, "count": 11}},
        "b": {"draw_samples": {"sampler": {"steps": 2}}, "train_prior": {"steps": 22}},
        "ab": {"like": ["a", "b"]},
        "ba": {"like": ["b", "a"]},
        "own": {"like": ["a", "b"], "draw_samples": {"sampler": {"steps": 3}}},
        "other": {"like": "own", "train_prior": {"steps": 44}},
    }
    found = study({f"toy/variants/{name}": block for name, block in variants.items()}).variants
    assert [steps(found[name]) for name in ("ab", "ba", "own", "other")] == [2, 1, 3, 3]
    assert [found[name].draw_samples.count for name in ("ab", "ba", "own", "other")] == [11] * 4
    assert [found[name].train_prior.steps for name in ("ab", "ba", "own", "other")] == [22, 22, 22, 44]


def test_component_of_another_name_is_replaced_and_then_overridden():
    changes = {
        "presets": {"exact": {"prior": {"name": "gaussian"}, "draw_samples": {"sampler": {"name": "ancestral"}}}},
        "toy/variants/few": {"like": "exact", "draw_samples": {"sampler": {"batch_size": 5}}},
    }
    assert study(changes).variants["few"].draw_samples.sampler.batch_size == 5


def test_presets_of_a_study_serve_those_that_extend_it_and_hide_those_of_the_file():
    def preset(number):
        return {"long": {"draw_samples": {"sampler": {"steps": number}}}}

    both = {"variants": {"v": {"like": "long"}}, "tables": {}, "figures": {}}
    changes = {
        "presets": preset(100) | {"longer": {"like": "long", "train_prior": {"steps": 99}}},
        "toy/presets": preset(200),
        "toy/variants/v": {"like": "long"},
        "toy/variants/w": {"like": "longer"},
        "child": {"extends": "toy", **both},
        "own": {"extends": "child", "presets": preset(300), **both},
    }
    found = parse_params(params(changes)).studies
    assert [steps(found[name].variants["v"]) for name in ("toy", "child", "own")] == [200, 200, 300]
    assert steps(found["toy"].variants["w"]) == 200


def test_table_is_like_another_one_or_a_preset():
    changes = {
        "presets": {"noted": {"notes": ["a note"], "metrics": ["kd"]}},
        "toy/tables/more": {"like": ["main", "noted"], "caption": "more"},
    }
    found = study(changes).tables["more"]
    assert (found.metrics, found.notes, found.caption) == (["kd"], ["a note"], "more")


def test_table_without_variants_shows_all_of_the_study():
    found = study({"toy/tables/all": {"metrics": ["fd"]}})
    assert found.tables["all"].variants == list(found.variants)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"toy/variants/joint": {"like": "joint-k4"}},
         "toy.variants.joint.like: there is no 'joint-k4' here and no such preset; did you mean 'joint-k40'? allowed: "
         "gaussian, joint, joint-k40"),
        ({"presets": {"long": {}}, "toy/variants/joint": {"like": ["joint-k40", "lon"]}},
         "toy.variants.joint.like: there is no 'lon' here and no such preset; did you mean 'long'?"),
        ({"toy/variants/joint": {"like": 3}}, "toy.variants.joint.like: there is no '3' here"),
        ({"toy/variants/joint": {"like": {"a": 1}}}, "toy.variants.joint.like: there is no '{'a': 1}' here"),
        ({"toy/variants/joint": {"like": "joint"}}, "toy.variants.joint.like: 'joint' is like this block itself"),
        ({"toy/variants/a": {"like": "b"}, "toy/variants/b": {"like": "a"}}, "'a' is like this block itself"),
        ({"presets": {"a": {"like": "b"}, "b": {"like": "a"}}}, "presets.b.like: 'a' is like this block itself"),
        ({"presets": {"a": {"like": "joint"}}}, "presets.a.like: there is no 'joint' here"),
        ({"presets": {"joint": {}}, "toy/variants/a": {"like": "joint"}},
         "toy.variants.a.like: 'joint' is also a preset (my.yaml: presets.joint); rename one of them"),
        ({"presets": {"a": {"pior": {}}}}, "presets.a.pior: unknown key; did you mean 'prior'?"),
        ({"presets": {"a": 3}}, "presets.a: must be a block of overrides"),
        ({"presets": [1]}, "presets: must map names to blocks of settings, not [1]"),
        ({"toy/presets": None}, "toy.presets: must map names to blocks of settings, not None"),
        ({"toy/variants/joint": {"lik": "a"}}, "toy.variants.joint.lik: unknown key; did you mean 'like'?"),
        ({"toy/tables/main": {"like": "mian"}}, "toy.tables.main.like: there is no 'mian' here"),
        ({"toy/extends": ["toy"]}, "toy.extends: '['toy']' is no study"),
    ],
)  # fmt: skip
def test_mistakes_in_what_is_taken_over_are_one_line(changes, expected):
    assert f"my.yaml: {expected}" in complaint(changes) or expected in complaint(changes)


def test_mistake_in_a_preset_is_reported_where_it_stands():
    long = {"draw_samples": {"sampler": {"steps": -1}}}
    message = complaint({"presets": {"long": long}, "toy/variants/joint": {"like": "long"}})
    assert message.startswith("my.yaml: presets.long.draw_samples.sampler.steps: ")
    message = complaint({"presets": {"long": long}, "toy/variants/joint": {"like": "long", **long}})
    assert message.startswith("my.yaml: toy.variants.joint.draw_samples.sampler.steps: ")


def test_mistake_between_keys_is_reported_where_they_come_together():
    changes = {"presets": {"exact": {"draw_samples": {"sampler": {"name": "ancestral"}}}}}
    message = complaint(changes | {"toy/variants/joint": {"like": "exact"}})
    assert message.startswith("my.yaml: toy.variants.joint.draw_samples.sampler.name: 'ancestral' can't draw")


def test_mistake_in_a_study_is_reported_there_and_not_in_one_that_extends_it():
    child = {"extends": "toy", "variants": {"v": {}}, "tables": {}, "figures": {}}
    content = {"a-child": child} | params({"toy/train_prior/steps": -1})
    with pytest.raises(ParamsError, match=r"^my.yaml: toy.train_prior.steps: "):
        parse_params(content, "my.yaml")
