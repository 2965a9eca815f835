"""Identities of stages: who shares what, and what a change reaches."""

import pytest
import yaml
from toy import TEXT, params

from jebm.config.read import canonical, parse_params
from jebm.config.training import TrainBackbone
from jebm.errors import ParamsError
from jebm.io.digests import digest
from jebm.pipeline.jobs import devices_of, stage_job, study_jobs
from jebm.pipeline.study import Stage, make_plan

BLOCK = {"steps": 7, "batch_size": 8, "learning_rate": 0.1, "kl_warmup": [[0.0, 0.5]]}
KINDS = ("dataset", "features", "backbone", "prior", "samples", "layers", "density-metrics", "sample-metrics", "floor")


def plan(changes=None):
    return make_plan(parse_params(params(changes)))["toy"]


def moved(changes, variant="joint"):
    """The stages of a variant whose identity a change moves."""
    before, after = plan().variants[variant], plan(changes).variants[variant]
    return {kind for kind in KINDS if before.stage(kind).id != after.stage(kind).id}


def test_variants_that_share_parameters_share_stages():
    found = plan()
    assert len(found.ids("backbone")) == len(found.ids("dataset")) == len(found.ids("features")) == 1
    joint, longer, gaussian = (found.variants[name] for name in ("joint", "joint-k40", "gaussian"))
    assert joint.prior.id == longer.prior.id != gaussian.prior.id
    assert joint.samples.id != longer.samples.id
    assert joint.density_metrics.id == longer.density_metrics.id
    assert joint.sample_metrics.id == longer.sample_metrics.id == gaussian.sample_metrics.id


def test_two_variants_of_the_same_parameters_are_the_same_stages():
    found = plan({"toy/variants/twin": {}})
    assert all(found.variants["twin"].stage(k).id == found.variants["joint"].stage(k).id for k in KINDS)


@pytest.mark.parametrize(
    ("key", "value", "reached"),
    [
        ("toy/draw_samples/sampler/steps", 30, {"samples", "layers", "sample-metrics"}),
        ("toy/draw_samples/count", 30, {"samples", "layers", "sample-metrics"}),
        ("toy/train_prior/steps", 30, {"prior", "samples", "layers", "density-metrics", "sample-metrics"}),
        ("toy/train_prior/chain/steps", 30, {"prior", "samples", "layers", "density-metrics", "sample-metrics"}),
        ("toy/prior/energy/hidden", 9, {"prior", "samples", "layers", "density-metrics", "sample-metrics"}),
        ("toy/evaluate_density", {"importance_samples": 7}, {"density-metrics"}),
        ("toy/evaluate_samples", {"reference": "validation"}, {"sample-metrics", "floor"}),
        ("toy/features", {"name": "classifier", "steps": 7}, {"features", "sample-metrics", "floor"}),
        ("toy/train_backbone/steps", 30, set(KINDS) - {"dataset", "features", "floor"}),
        ("toy/dataset/test_count", 400, set(KINDS)),
        ("toy/compute", {"threads": 2}, set(KINDS) - {"dataset"}),
        ("toy/compute", {"devices": 2}, set(KINDS) - {"dataset", "features", "floor"}),
        ("runtime/checkpoint_seconds", 7, set()),
        ("toy/seeds", [0, 1, 2], set()),
        ("toy/tables/main/caption", "Another.", set()),
        ("default_studies", [], set()),
    ],
    ids=lambda value: None if isinstance(value, set) else str(value),
)
def test_change_reaches_exactly_what_depends_on_it(key, value, reached):
    assert moved({key: value}) == reached


def test_what_is_measured_does_not_depend_on_how_many_devices_measure_it():
    """Nor do stages that one device makes: their records say one."""
    two = plan({"toy/compute": {"devices": 2}})
    variant = two.variants["joint"]
    shared = {"backbone": 2, "prior": 2, "samples": 2, "features": 1, "floor": 1, "sample-metrics": 1, "layers": 1}
    for kind, devices in shared.items():
        assert stage_job(two, variant, variant.stage(kind), 1).parameters["compute"]["devices"] == devices
    assert {kind for kind in shared if devices_of(kind, variant) == 2} == {
        "backbone",
        "prior",
        "samples",
        "floor",
        "sample-metrics",
    }


def test_a_prior_that_is_not_learned_by_gradient_needs_one_device():
    mixture = {"prior": {"name": "mixture"}, "draw_samples": {"sampler": {"name": "ancestral"}}}
    variant = plan({"toy/compute": {"devices": 2}, "toy/variants/mixture": mixture}).variants["mixture"]
    assert (devices_of("prior", variant), devices_of("samples", variant)) == (1, 2)


def test_prior_that_is_not_trained_by_a_chain_does_not_depend_on_how():
    change = {"toy/train_prior/steps": 30}
    mixture = {
        "toy/variants/mixture": {"prior": {"name": "mixture"}, "draw_samples": {"sampler": {"name": "ancestral"}}}
    }
    for name in ("gaussian", "mixture"):
        assert plan(mixture).variants[name].prior.id == plan({**mixture, **change}).variants[name].prior.id
    assert plan(mixture).variants["joint"].prior.id != plan({**mixture, **change}).variants["joint"].prior.id


def test_change_in_one_variant_leaves_the_others():
    before, after = plan(), plan({"toy/variants/joint-k40/prior": {"energy": {"hidden": 9}}})
    for name in ("gaussian", "joint"):
        kinds = [k for k in KINDS if not k.endswith("-metrics")]  # one evaluation serves all variants
        assert all(before.variants[name].stage(k).id == after.variants[name].stage(k).id for k in kinds)


@pytest.mark.parametrize(
    "changes",
    [
        {"toy/train_prior/learning_rate": "1e-3"},
        {"toy/train_prior/weight_decay": 0},
        {"toy/train_prior/schedule": "cosine"},
        {"toy/prior/energy/layers": "all"},
        {"toy/draw_samples/sampler/chains": 2000},
        {"toy/compute": {"device": "cpu", "threads": 1}},
        {"toy/compute": {"devices": 1}},
        {"toy/evaluate_density": {}},
    ],
    ids=str,
)
def test_default_written_out_or_number_written_otherwise_changes_nothing(changes):
    assert moved(changes) == set()


def test_block_is_identified_by_what_differs_from_the_defaults():
    """So a new key with a default moves no identity, and no result is made again for it."""
    assert canonical(TrainBackbone(**BLOCK)) == canonical(TrainBackbone(**BLOCK, ema=0.0)) == BLOCK
    assert canonical(TrainBackbone(**BLOCK, ema=0.5)) == {**BLOCK, "ema": 0.5}


def test_order_of_keys_changes_nothing():
    content = yaml.safe_load(TEXT)
    content["toy"] = dict(reversed(content["toy"].items()))
    assert make_plan(parse_params(content))["toy"].variants["joint"].samples.id == plan().variants["joint"].samples.id


def test_find_returns_a_variant_with_that_stage():
    found = plan()
    for kind in KINDS:
        for variant in found.variants.values():
            assert found.find(kind, variant.stage(kind).id).stage(kind).id == variant.stage(kind).id


def test_find_of_an_unknown_identity_says_what_may_have_happened():
    with pytest.raises(ParamsError, match=r"no variant of 'toy' has the prior 0123456789; was params\.yaml edited"):
        plan().find("prior", "0123456789")


def test_folders_name_the_identity_and_the_seed():
    variant = plan().variants["joint"]
    prior, dataset, features = variant.prior, variant.dataset, variant.features
    assert str(prior.run_folder(3)) == f"runs/prior-{prior.id}/seed3"
    assert str(dataset.run_folder(3)) == f"data/digits-{dataset.id}"
    assert str(features.run_folder(3)) == f"runs/features-{features.id}"
    assert prior.files("{seed}")[0] == f"runs/prior-{prior.id}/seed{{seed}}/weights.safetensors"
    assert not str(prior.state_folder(3)).startswith(("runs", "data", "results"))


def test_files_of_a_study_are_those_of_all_its_seeds():
    found = plan()
    assert len(found.metric_files()) == 3 * 2 * 2
    assert {name for name, _ in found.metric_files()} == {"gaussian", "joint", "joint-k40"}
    assert len(found.figure_files("samples")) == 2 + 2 * 2  # images and manifest, samples of two variants and seeds
    assert len(found.floor_files()) == 1


def test_only_priors_with_a_fit_are_learned():
    learned = {name: variant.learned for name, variant in plan().variants.items()}
    assert learned == {"gaussian": False, "joint": True, "joint-k40": True}


def test_identity_depends_on_the_parent_and_not_on_the_study():
    stages = [Stage("x", {"k": 1}), Stage("x", {"k": 2})]
    assert stages[0].id != stages[1].id
    assert Stage("y", {}, stages[0]).id != Stage("y", {}, stages[1]).id
    content = yaml.safe_load(TEXT)
    content["other"] = content["toy"]
    plans = make_plan(parse_params(content))
    for kind in KINDS:
        assert plans["toy"].variants["joint"].stage(kind).folder == plans["other"].variants["joint"].stage(kind).folder


def test_digest_is_stable():
    """Recorded results carry these: a change of the function would orphan them all."""
    assert digest({"b": [1, 2.5, "x"], "a": None}) == digest({"a": None, "b": [1, 2.5, "x"]}) == "cacedc786a"


INCEPTION = {
    "assets": {"inception": {"file": "inception/inception-2015-12-05.pt"}},
    "toy/features": {"name": "inception", "weights": "inception"},
    "toy/tables/main/columns": ["fid"],
}


def test_only_streamed_features_have_reference_statistics_of_their_own():
    assert plan().ids("reference") == []
    found = plan(INCEPTION)
    assert len(found.ids("reference")) == 1
    (job,) = [job for job in study_jobs(found) if job.rule == "reference_statistics"]
    assert "assets/inception/inception-2015-12-05.pt" in job.inputs
    reads = {job.rule for job in study_jobs(found) if "reference" in " ".join(job.inputs)}
    assert reads == {"evaluate_samples", "evaluate_floor"}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"kernel_distance_subsets": 7, "precision_recall_neighbours": 5, "allow_singular": True}, True),
        ({"reference": "train"}, False),
        ({"kept_features": 70}, False),
    ],
)
def test_reference_statistics_depend_on_what_they_are_made_from(changes, same):
    def job(change):
        found = plan({**INCEPTION, **change})
        (one,) = [job for job in study_jobs(found) if job.rule == "reference_statistics"]
        return one.outputs, one.parameters

    before, after = job({}), job({"toy/evaluate_samples": changes})
    assert (before == after) == same
