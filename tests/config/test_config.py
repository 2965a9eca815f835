"""params.yaml: what is accepted, and that every mistake gets one line with the file, the key and what is allowed."""

import copy
import re
from pathlib import Path

import pytest
from toy import DELETE, TEXT, params

from jebm.config.messages import unknown
from jebm.config.read import merge, parse_params, read_params
from jebm.errors import ParamsError

REPOSITORY = Path(__file__).parents[2]
BACKBONE_KEYS = "name, latent_dims, hidden, depth, scale_limit, mean_gain, likelihood"
ENERGY_KEYS = "name, hidden, depth, layers, activation, start"
KERNEL_KEYS = "name, step_size, adjusted"
CHAIN_KEYS = "name, kernel, steps, chains, allow_divergence, space, start, step_size, gradients"
STUDY_KEYS = (
    "extends, presets, seeds, variants, headline, differences, tables, figures, compute, dataset, features, backbone, "
    "train_backbone, import_backbone, prior, train_prior, train_joint, draw_samples, evaluate_samples, "
    "evaluate_density, evaluations"
)
VARIANT_KEYS = STUDY_KEYS.replace(
    "extends, presets, seeds, variants, headline, differences, tables, figures, ", "like, "
)
TABLE_KEYS = (
    "like, variants, metrics, rows, columns, where, scores, compare, best, intervals, label, caption, literature, notes"
)


def complaint(changes):
    with pytest.raises(ParamsError) as error:
        parse_params(params(changes), "my.yaml")
    return str(error.value)


# What is accepted ----------------------------------------------------------------------------------------------------


def test_parameters_of_the_repository_are_valid():
    found = read_params(REPOSITORY / "params.yaml")
    assert set(found.default_studies) <= set(found.studies)
    for study in found.studies.values():
        assert study.variants


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        ({"devices": 3}, "compute.devices: is 3, but train_backbone.batch_size is 8; each device gets an equal share"),
        ({"devices": 16}, "compute.devices: is 16, but train_backbone.batch_size is 8"),
        ({"devices": 2, "device": "cuda:1"}, "compute.devices: is 2, but 'cuda:1' is one device"),
        ({"devices": 2, "device": "mps"}, "compute.devices: is 2, but 'mps' is one device"),
        ({"devices": 0}, "compute.devices: "),
    ],
    ids=str,
)
def test_impossible_devices_are_refused(compute, message):
    assert f"my.yaml: toy.{message}" in complaint({"toy/compute": compute})


def test_fewer_samples_than_devices_are_refused():
    changes = {"toy/compute": {"devices": 8}, "toy/draw_samples/count": 5}
    assert "toy.compute.devices: is 8, more than draw_samples.count (5)" in complaint(changes)


PCNL, ULA = {"name": "pcnl", "step_size": 0.3}, {"name": "langevin", "step_size": 0.3}


@pytest.mark.parametrize(
    ("chains", "message"),
    [
        ({"a b": {"kernel": PCNL, "space": "z"}}, "a b.space: 'z' needs a 'langevin' kernel"),
        ({"a": {"kernel": ULA, "start": "nowhere"}}, "a.start: 'nowhere' is unknown"),
        ({"a": {"kernel": ULA, "star": "normal"}}, "a.star: unknown key; did you mean 'start'? allowed: kernel, space"),
        ({"a": {"kernel": {"name": "ulla"}}}, "a.kernel.name: 'ulla' is unknown"),
        ({"a": {}}, "a.kernel: is required, but missing"),
    ],
)
def test_mistakes_in_labelled_blocks_name_the_label(chains, message):
    changes = {"toy/evaluations": {"all": {"name": "chain-comparison", "chains": chains}}}
    assert f"my.yaml: toy.evaluations.all.chains.{message}" in complaint(changes)


def test_chain_in_z_needs_a_prior_with_an_energy():
    chains = {"evaluations": {"all": {"name": "chain-comparison", "chains": {"a": {"kernel": ULA, "space": "z"}}}}}
    parse_params(params({"toy/variants/joint": chains}))
    found = complaint({"toy/variants/gaussian/evaluations": chains["evaluations"]})
    assert "toy.variants.gaussian.evaluations.all.chains.a.space: 'z' needs a prior with an energy" in found


def test_singular_covariances_are_allowed_only_where_that_means_something():
    found = complaint({"toy/evaluate_samples": {"allow_singular": True}})
    assert "evaluate_samples.allow_singular: has no meaning in the features 'classifier', only in inception" in found


def test_variant_is_the_base_with_its_overrides():
    study = parse_params(params()).studies["toy"]
    assert study.variants["joint"] == study.base
    assert study.variants["joint-k40"].draw_samples.sampler.steps == 40
    assert study.variants["joint-k40"].draw_samples.sampler.kernel.step_size == 0.3
    assert study.variants["gaussian"].prior.name == "gaussian"
    assert study.variants["gaussian"].train_prior == study.base.train_prior


@pytest.mark.parametrize(
    "number", ["1e-3", "1E-3", "0.1e-2", ".1e-2", "10e-4", "+1e-3", 0.001], ids=lambda number: f"{number!r}"
)
def test_number_that_yaml_reads_as_a_string_is_a_number(number):
    found = parse_params(params({"toy/train_prior/learning_rate": number}))
    assert found == parse_params(params())


def test_whole_number_will_do_for_a_real_one():
    found = parse_params(params({"toy/train_prior/weight_decay": 1})).studies["toy"].base.train_prior.weight_decay
    assert found == 1.0
    assert type(found) is float


def test_all_layers_or_a_list_of_them():
    for layers in ("all", [1], [2, 1]):
        found = parse_params(params({"toy/prior/energy/layers": layers}))
        assert found.studies["toy"].base.prior.energy.layers == layers


def test_runtime_is_optional():
    assert parse_params(params({"runtime": DELETE})).runtime.checkpoint_seconds == 60


def test_parsing_does_not_change_what_it_is_given():
    content = params()
    before = copy.deepcopy(content)
    parse_params(content)
    assert content == before


# Unknown keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("toy/backbne", {}, f"toy.backbne: unknown key; did you mean 'backbone'? allowed: {STUDY_KEYS}"),
        ("toy/backbone/hiden", 3, f"toy.backbone.hiden: unknown key; did you mean 'hidden'? allowed: {BACKBONE_KEYS}"),
        ("toy/dataset/zebra", 3, "toy.dataset.zebra: unknown key; allowed: name, split_seed, validation_count, "
                                 "test_count, ood_count, ood_sets, held_out_class"),
        ("toy/prior/enrgy", {}, "toy.prior.enrgy: unknown key; did you mean 'energy'? allowed: name, energy, base, "
                               "proposal"),
        ("toy/prior/energy/hiden", 3, "toy.prior.energy.hiden: unknown key; did you mean 'hidden'? "
                                       f"allowed: {ENERGY_KEYS}"),
        ("toy/train_prior/estimator/stps", 3, "toy.train_prior.estimator.stps: unknown key; did you mean 'steps'? "
                                              "allowed: name, kernel, steps, space, start, gradients, "
                                              "adaptation_steps, target_acceptance"),
        ("toy/train_prior/estimator/kernel/step_sise", 3, "toy.train_prior.estimator.kernel.step_sise: unknown key; "
                                                          f"did you mean 'step_size'? allowed: {KERNEL_KEYS}"),
        ("toy/draw_samples/sampler/stpes", 3, "toy.draw_samples.sampler.stpes: unknown key; did you mean 'steps'? "
                                              f"allowed: {CHAIN_KEYS}"),
        ("toy/draw_samples/sampler/kernel/adjustd", True, "toy.draw_samples.sampler.kernel.adjustd: unknown key; did "
                                                          f"you mean 'adjusted'? allowed: {KERNEL_KEYS}"),
        ("toy/variants/joint-k40/draw_sample", {}, "toy.variants.joint-k40.draw_sample: unknown key; did you mean "
                                                   f"'draw_samples'? allowed: {VARIANT_KEYS}"),
        ("toy/variants/joint-k40/draw_samples/sampler/stpes", 3, "toy.variants.joint-k40.draw_samples.sampler.stpes: "
                                                 f"unknown key; did you mean 'steps'? allowed: {CHAIN_KEYS}"),
        ("toy/variants/joint-k40/prior", {"energy": {"layer": [1]}}, "toy.variants.joint-k40.prior.energy.layer: "
                                                 f"unknown key; did you mean 'layers'? allowed: {ENERGY_KEYS}"),
        ("toy/variants/gaussian/prior", {"name": "gaussian", "energy": {}}, "toy.variants.gaussian.prior.energy: "
                                                                            "unknown key; allowed: name"),
        ("toy/variants/joint/seeds", [1], f"toy.variants.joint.seeds: unknown key; allowed: {VARIANT_KEYS}"),
        ("toy/tables/main/colums", [], "toy.tables.main.colums: unknown key; did you mean 'columns'? allowed: "
                                       f"{TABLE_KEYS}"),
        ("runtime/checkpoint_second", 3, "runtime.checkpoint_second: unknown key; did you mean 'checkpoint_seconds'? "
                                         "allowed: checkpoint_seconds, data_on_device, fork_server, "
                                         "jobs_per_gpu, longest_job, gpu_request"),
    ],
    ids=lambda value: value.replace("/", ".") if isinstance(value, str) and " " not in value else "",
)  # fmt: skip
def test_unknown_key_is_one_line_with_the_nearest_and_the_allowed_ones(key, value, expected):
    assert complaint({key: value}) == f"my.yaml: {expected}"


def test_unknown_study_setting_that_is_no_block_is_named_with_the_nearest_top_key():
    expected = (
        "my.yaml: defalt_studies: must be a study's block of settings, not ['toy']; did you mean 'default_studies'?"
    )
    assert complaint({"defalt_studies": ["toy"]}).startswith(expected)


# Values that can't be ------------------------------------------------------------------------------------------------

MISTAKES = [
    ("toy/train_prior/steps", "many", "toy.train_prior.steps", "integer, got 'many'"),
    ("toy/train_prior/steps", 1.5, "toy.train_prior.steps", "integer, got 1.5"),
    ("toy/train_prior/steps", True, "toy.train_prior.steps", "integer, got True"),
    ("toy/train_prior/steps", -5, "toy.train_prior.steps", "greater than or equal to 1, got -5"),
    ("toy/train_prior/steps", DELETE, "toy.train_prior.steps", "is required, but missing"),
    ("toy/train_prior", DELETE, "toy.train_prior", "is required, but missing"),
    ("toy/train_prior", None, "toy.train_prior", "got None"),
    ("toy/train_prior", [1], "toy.train_prior", "got [1]"),
    ("toy/train_prior/estimator/kernel", "pcnl", "toy.train_prior.estimator.kernel", "got 'pcnl'"),
    ("toy/train_prior/learning_rate", "fast", "toy.train_prior.learning_rate", "number, got 'fast'"),
    ("toy/train_prior/learning_rate", 0, "toy.train_prior.learning_rate", "greater than 0, got 0"),
    ("toy/train_prior/learning_rate", float("nan"), "toy.train_prior.learning_rate", "finite number, got nan"),
    ("toy/train_prior/ema", 1.5, "toy.train_prior.ema", "less than 1, got 1.5"),
    ("toy/train_prior/schedule", "cos", "toy.train_prior.schedule", "'cos' is unknown; did you mean 'cosine'?"),
    ("toy/train_prior/estimator/kernel/step_size", 1,
     "toy.train_prior.estimator.kernel.step_size", "less than 1, got 1"),
    ("toy/train_prior/estimator/kernel", {"name": "pcnl"}, "toy.train_prior.estimator.kernel.step_size", "is required"),
    ("toy/train_prior/estimator/kernel/adjusted", "yes",
     "toy.train_prior.estimator.kernel.adjusted", "boolean, got 'yes'"),
    ("toy/draw_samples/sampler/steps", 0, "toy.draw_samples.sampler.steps", "greater than or equal to 1, got 0"),
    ("toy/backbone/latent_dims", [], "toy.backbone.latent_dims", "at least 1 entries, got []"),
    ("toy/backbone/latent_dims", [4, 0], "toy.backbone.latent_dims.1", "greater than or equal to 1, got 0"),
    ("toy/backbone/latent_dims", 4, "toy.backbone.latent_dims", "list, got 4"),
    ("toy/backbone/latent_dims", DELETE, "toy.backbone.latent_dims", "is required, but missing"),
    ("toy/train_backbone/kl_warmup", [[0, 0.5]] * 3, "toy.train_backbone.kl_warmup", "has 3 entries, but "
     "the backbone has 2 layers"),
    ("toy/backbone", {"name": "residual", "layers_per_scale": [2, 2], "latent_channels": 3},
     "toy.backbone.layers_per_scale", "has 2 entries, channels 1 and resolutions 1"),
    ("toy/backbone", {"name": "residual", "layers_per_scale": [2, 2], "latent_channels": 3, "resolutions": [4, 3],
     "channels": [8, 8]}, "toy.backbone.resolutions", "whole multiple of the next"),
    ("toy/backbone", {"name": "residual", "layers_per_scale": [2], "latent_channels": 3, "dropout": 1.0},
     "toy.backbone.dropout", "less than 1"),
    ("toy/evaluations", {"mine": {"name": "layres"}}, "toy.evaluations.mine.name", "did you mean 'layers'?"),
    ("core_studies", ["tory"], "core_studies", "'tory' is no study; did you mean 'toy'?"),
    ("toy/tables/main/metrics", ["kll"], "toy.tables.main.metrics", "'kll' is no metric; did you mean 'kl'?"),
    ("toy/tables/main/rows", ["sets"], "toy.tables.main.rows", "'sets' is no column and no parameter; did you mean "
     "'set'? allowed: variant, seed, metric, set, score, layer, step"),
    ("toy/tables/main/columns", ["metric", "dataset.digit"], "toy.tables.main.columns", "'dataset.digit' is no column"),
    ("toy/tables/main/where", {"scores": ["f"]}, "toy.tables.main.where.scores", "did you mean 'score'?"),
    ("toy/tables/main/where", {"score": ["elbo-f"]}, "toy.tables.main.where.score", "'elbo-f' is no score of 2 layers; "
     "did you mean 'elbo+f'?"),
    ("toy/headline", {"fd": {"variants": ["jont"], "metric": "fd"}}, "toy.headline.fd.variants",
     "'jont' is no variant; did you mean 'joint'?"),
    ("toy/headline", {"fd": {"variants": ["joint"], "metric": "bound"}}, "toy.headline.fd.metric",
     "did you mean 'iw_bound'?"),
    ("toy/train_backbone/kl_warmup", [[0, 0.5], [0]], "toy.train_backbone.kl_warmup.1", "at least 2 entries, got [0]"),
    ("toy/train_backbone/kl_warmup", [[0, 0.5], [0, 2.0]], "toy.train_backbone.kl_warmup.1.1", "to 1, got 2.0"),
    ("toy/train_backbone/kl_warmup", [[0, 0.5], [0.4, 0.2]], "toy.train_backbone.kl_warmup", "start ≤ end"),
    ("toy/prior/energy/layers", [3], "toy.prior.energy.layers", "is [3]; allowed are 'all' or different numbers from 1 "
     "(bottom) to 2"),
    ("toy/prior/energy/layers", [1, 1], "toy.prior.energy.layers", "is [1, 1]"),
    ("toy/prior/energy/layers", [0], "toy.prior.energy.layers", "0]"),
    ("toy/prior/energy/layers", [], "toy.prior.energy.layers", "[]"),
    ("toy/prior/energy/layers", {"top_scales": 2}, "toy.prior.energy.layers.top_scales", "is 2; the backbone's"),
    ("toy/prior/energy/layers", {"top_scales": 0}, "toy.prior.energy.layers", "or {top_scales: k}"),
    ("toy/prior/energy/layers", {"top": 1}, "toy.prior.energy.layers", "or {top_scales: k}"),
    ("toy/prior/energy/layers", "both", "toy.prior.energy.layers", "'both'"),
    ("toy/variants/joint/prior", {"energy": {"layers": [5]}}, "toy.variants.joint.prior.energy.layers", "is [5]"),
    ("toy/dataset/ood_sets", ["patch"], "toy.dataset.ood_sets.0", "did you mean 'patches'?"),
    ("toy/seeds", [0, 0], "toy.seeds", "[0, 0] names a seed twice"),
    ("toy/seeds", [], "toy.seeds", "at least 1 entries, got []"),
    ("toy/seeds", 0, "toy.seeds", "list, got 0"),
    ("toy/seeds", [-1], "toy.seeds.0", "greater than or equal to 0, got -1"),
    ("toy/seeds", DELETE, "toy.seeds", "is required, but missing"),
    ("toy/tables/main/variants", ["jont"], "toy.tables.main.variants", "'jont' is no variant; did you mean 'joint'? "
     "allowed: gaussian, joint, joint-k40"),
    ("toy/figures/samples", ["zebra"], "toy.figures.samples", "'zebra' is no variant; allowed: gaussian, joint, "
     "joint-k40"),
    ("toy/figures/sample", ["joint"], "toy.figures.sample", "'samples'"),
    ("toy/tables/main/compare", "column", "toy.tables.main.compare", "did you mean 'columns'? allowed: columns, rows"),
    ("toy/variants/joint", None, "toy.variants.joint", "must be a block of overrides ({} for none), not None"),
    ("toy/variants", {}, "toy.variants", "must map the name of each variant to its overrides"),
    ("runtime/checkpoint_seconds", -1, "runtime.checkpoint_seconds", "greater than 0, got -1"),
    ("default_studies", ["toi"], "default_studies", "'toi' is no study; did you mean 'toy'? allowed: toy"),
    ("default_studies", DELETE, "default_studies", "is required, but missing"),
    ("extra", None, "extra", "must be a study's block of settings, not None"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "where", "what"), MISTAKES, ids=[f"{m[0]}-{i}" for i, m in enumerate(MISTAKES)]
)
def test_mistake_is_one_line_that_names_the_key_and_says_what_is_wrong(key, value, where, what):
    message = complaint({key: value})
    assert message.startswith(f"my.yaml: {where}: ")
    assert what in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "value", "where", "what"), MISTAKES, ids=[f"{m[0]}-{i}" for i, m in enumerate(MISTAKES)]
)
def test_no_message_speaks_of_the_inside_of_the_program(key, value, where, what):
    message = complaint({key: value})
    for word in ("instance of", "object to extract", "Parameters", "TrainPrior", "union", "ctx"):
        assert word not in message


@pytest.mark.parametrize(
    ("key", "name", "hint"),
    [
        ("toy/prior", "ebmm", "did you mean 'ebm'? allowed: gaussian, mixture, flow, ebm"),
        ("toy/train_prior/estimator/kernel", "pncl", "did you mean 'pcnl'? allowed: local-global, langevin, pcnl"),
        ("toy/draw_samples/sampler", "zebra", "allowed: ancestral, denoising, levels, mcmc, resampling"),
        ("toy/backbone", "perceptrn", "'perceptron'"),
        ("toy/prior/energy", "layrwise", "'layerwise'"),
        ("toy/dataset", "digit", "'digits'"),
    ],
)
def test_unknown_component_is_named_with_what_there_is(key, name, hint):
    message = complaint({f"{key}/name": name})
    assert message.startswith(f"my.yaml: {key.replace('/', '.')}.name: ")
    assert f"'{name}'" in message
    assert hint in message
    assert "\n" not in message


def test_component_without_a_name_is_told_so():
    for key in ("toy/prior", "toy/backbone", "toy/train_prior/estimator/kernel"):
        where = key.replace("/", ".")
        assert complaint({f"{key}/name": DELETE}).startswith(f"my.yaml: {where}.name: is required, but missing")


def test_unknown_component_in_a_variant_is_found_there():
    message = complaint({"toy/variants/joint/prior": {"name": "gausian"}})
    assert message.startswith("my.yaml: toy.variants.joint.prior.name: 'gausian' is unknown; did you mean 'gaussian'?")


def test_every_mistake_of_a_block_gets_its_line():
    message = complaint({"toy/train_prior": {"steps": -1, "batch_size": 0, "foo": 1}})
    keys = [line.split(": ")[1] for line in message.splitlines()]
    names = ("steps", "batch_size", "learning_rate", "estimator", "foo")
    assert sorted(keys) == sorted(f"toy.train_prior.{name}" for name in names)


def test_sampler_that_cannot_draw_from_the_prior_is_refused_before_anything_is_trained():
    message = complaint({"toy/variants/joint/draw_samples": {"sampler": {"name": "ancestral"}}})
    assert message.startswith("my.yaml: toy.variants.joint.draw_samples.sampler")


def test_variant_may_not_take_the_name_of_the_floor():
    """``real-data`` is the variant name of the real-against-real rows of metrics.csv."""
    assert complaint({"toy/variants/real-data": {}}).startswith("my.yaml: toy.variants.real-data: ")


# Files ---------------------------------------------------------------------------------------------------------------


def written(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_file_is_read_and_named_in_messages(tmp_path):
    assert read_params(written(tmp_path, TEXT)) == parse_params(params())
    path = written(tmp_path, TEXT.replace("hidden: 8", "hiden: 8"))
    with pytest.raises(ParamsError, match=f"^{path}: toy.prior.energy.hiden: unknown key"):
        read_params(path)


def test_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(ParamsError, match="no such file; run from the repository's top folder"):
        read_params(tmp_path / "params.yaml")


def test_broken_yaml_is_one_line_with_its_place(tmp_path):
    path = written(tmp_path, "toy: [1, 2\nother: 3\n")
    with pytest.raises(ParamsError) as error:
        read_params(path)
    assert str(error.value).startswith(f"{path}: not valid YAML: ")
    assert "line 2" in str(error.value)
    assert "\n" not in str(error.value)


def test_key_given_twice_is_refused(tmp_path):
    """PyYAML keeps the last of two equal keys and says nothing: half of somebody's edit would be lost."""
    path = written(tmp_path, TEXT.replace("  seeds: [0, 1]\n", "  seeds: [0, 1]\n  seeds: [0]\n"))
    with pytest.raises(ParamsError, match="seeds"):
        read_params(path)


@pytest.mark.parametrize("text", ["", "3\n", "- a\n"])
def test_file_that_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(ParamsError, match="must be a mapping"):
        read_params(written(tmp_path, text))


def test_file_without_a_study_is_refused(tmp_path):
    with pytest.raises(ParamsError, match="has no study"):
        read_params(written(tmp_path, "default_studies: []\n"))


# Merging -------------------------------------------------------------------------------------------------------------


def test_merge_lays_keys_over_keys_and_replaces_everything_else():
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 2}
    assert merge(base, {"a": {"y": [3]}, "c": 4}) == {"a": {"x": 1, "y": [3]}, "b": 2, "c": 4}
    assert base == {"a": {"x": 1, "y": [1, 2]}, "b": 2}


def test_merge_keeps_a_component_of_the_same_name():
    base = {"kernel": {"name": "pcnl", "step_size": 0.3, "adjusted": True}}
    expected = {"kernel": {"name": "pcnl", "step_size": 0.5, "adjusted": True}}
    assert merge(base, {"kernel": {"name": "pcnl", "step_size": 0.5}}) == expected
    assert merge(base, {"kernel": {"step_size": 0.5}}) == expected


def test_merge_replaces_a_component_of_another_name():
    base = {"prior": {"name": "ebm", "energy": {"name": "layerwise"}}, "other": 1}
    assert merge(base, {"prior": {"name": "gaussian"}}) == {"prior": {"name": "gaussian"}, "other": 1}


def test_merge_of_nothing_changes_nothing():
    base = {"a": {"name": "x", "b": [1]}}
    assert merge(base, {}) == base
    assert merge(base, {"a": {}}) == base


def test_merge_replaces_a_block_by_a_value_and_a_value_by_a_block():
    assert merge({"a": {"b": 1}}, {"a": None}) == {"a": None}
    assert merge({"a": 1}, {"a": {"b": 1}}) == {"a": {"b": 1}}


def test_study_that_extends_another_starts_from_its_seeds_and_base():
    content = params({"longer": {"extends": "toy", "train_prior": {"steps": 99}, "variants": {"joint": {}}}})
    content["longer"] |= {"tables": {}, "figures": {}}
    studies = parse_params(content).studies
    assert studies["longer"].seeds == studies["toy"].seeds
    assert studies["longer"].base.train_prior.steps == 99
    assert studies["longer"].base.backbone == studies["toy"].base.backbone
    assert list(studies["longer"].variants) == ["joint"]


def test_study_may_extend_one_that_extends():
    content = params({"a": {"extends": "b", "variants": {"x": {}}, "tables": {}, "figures": {}}})
    content["b"] = {"extends": "toy", "seeds": [7], "variants": {"y": {}}, "tables": {}, "figures": {}}
    assert parse_params(content).studies["a"].seeds == [7]


@pytest.mark.parametrize(
    ("other", "expected"),
    [("tou", "longer.extends: 'tou' is no study; did you mean 'toy'?"), ("longer", "extends this study itself")],
)
def test_study_extends_another_one_that_exists(other, expected):
    with pytest.raises(ParamsError, match=re.escape(expected)):
        parse_params(params({"longer": {"extends": other, "variants": {"joint": {}}}}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"snapshots": 3}, "snapshots: and snapshot_interval come together"),
        ({"snapshot_interval": 3}, "snapshots: and snapshot_interval come together"),
        ({"snapshots": 6, "snapshot_interval": 2}, "snapshots: 6 models, 2 steps apart, need more than the 10 steps"),
    ],
)
@pytest.mark.parametrize("block", ["train_backbone", "train_prior"])
def test_snapshots_fit_into_training(block, settings, message):
    changes = {f"toy/{block}/{key}": value for key, value in settings.items()}
    assert f"my.yaml: toy.{block}.{message}" in complaint(changes)
    parse_params(params({f"toy/{block}/snapshots": 5, f"toy/{block}/snapshot_interval": 2}))


@pytest.mark.parametrize(
    ("features", "column", "others"),
    [
        ({"name": "classifier"}, "fid", "fd, kd"),
        ({"name": "inception", "weights": "a.pt"}, "fd", "fid, kid, precision, recall"),
    ],
)
def test_distance_that_the_features_do_not_have_is_refused(features, column, others):
    message = complaint({"toy/features": features, "toy/tables/main/metrics": [column]})
    assert message.startswith("my.yaml: toy.tables.main.metrics: ")
    assert f"'{column}' is not measured in the features '{features['name']}'" in message
    assert others in message


def test_unknown_protocol_of_inception_is_refused():
    message = complaint({"toy/features": {"name": "inception", "weights": "a.pt", "protocol": "pytorch"}})
    assert "toy.features.protocol" in message
    assert "'legacy_pytorch'" in message


def test_a_mistyped_key_is_not_called_missing():
    training = {"steps": 10, "lerning_rate": 1.0e-3, "kl_warmup": [[0.0, 0.5], [0.1, 0.6]]}
    with pytest.raises(ParamsError) as error:
        parse_params(params({"toy/train_backbone": training}))
    first, second = str(error.value).splitlines()
    assert "lerning_rate: unknown key; did you mean 'learning_rate'?" in first
    assert "batch_size: is required, but missing" in second


def test_a_long_list_of_names_is_cut_if_the_right_one_is_named():
    names = [f"study{i}" for i in range(30)]
    assert str(unknown("no study", "study9", names)).endswith("study7 and 22 more")
    assert str(unknown("no study", "nothing like it", names)).endswith("study29")
