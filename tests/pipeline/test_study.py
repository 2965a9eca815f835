"""Identities of stages: who shares what, and what a change reaches."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from toy import DELETE, TEXT, params

from jebm.config.read import canonical, parse_params
from jebm.config.training import TrainBackbone
from jebm.io.digests import digest
from jebm.pipeline.jobs import devices_of, stage_job, study_jobs
from jebm.pipeline.stages import KINDS, Stage
from jebm.pipeline.study import make_plan

BLOCK = {"steps": 7, "batch_size": 8, "learning_rate": 0.1, "kl_warmup": [[0.0, 0.5]]}
ROLES = ("dataset", "features", "backbone", "prior", "samples", "layers", "density_metrics", "sample_metrics", "floor")
REFERENCE = {"evaluations": {"terms": {"name": "terms", "count": 100}}}


def plan(changes=None):
    return make_plan(parse_params(params(changes)))["toy"]


def stages_of(variant):
    """Role → identity, of every stage of a variant."""
    own = {role: getattr(variant, role).id for role in ROLES if getattr(variant, role) is not None}
    return own | {f"evaluations.{label}": stage.id for label, stage in variant.evaluations.items()}


def moved(changes, variant="joint"):
    """The stages of a variant whose identity a change moves."""
    before, after = (stages_of(plan(change).variants[variant]) for change in (None, changes))
    assert before.keys() == after.keys()
    return {role for role in before if before[role] != after[role]}


def distinct(found, role):
    """The identities of a role in all variants of a plan."""
    return {getattr(variant, role).id for variant in found.variants.values()}


def test_variants_that_share_parameters_share_stages():
    found = plan()
    assert len(distinct(found, "backbone")) == len(distinct(found, "dataset")) == len(distinct(found, "features")) == 1
    joint, longer, gaussian = (found.variants[name] for name in ("joint", "joint-k40", "gaussian"))
    assert joint.prior.id == longer.prior.id != gaussian.prior.id
    assert joint.samples.id != longer.samples.id
    assert joint.density_metrics.id == longer.density_metrics.id
    assert len({joint.sample_metrics.id, longer.sample_metrics.id, gaussian.sample_metrics.id}) == 3
    assert joint.density_metrics.id != gaussian.density_metrics.id
    assert len(distinct(found, "floor")) == 1


def test_two_variants_of_the_same_parameters_are_the_same_stages():
    found = plan({"toy/variants/twin": {}})
    assert found.variants["twin"].all_stages() == found.variants["joint"].all_stages()


@pytest.mark.parametrize(
    ("key", "value", "reached"),
    [
        ("toy/draw_samples/sampler/steps", 30, {"samples", "layers", "sample_metrics"}),
        ("toy/draw_samples/count", 30, {"samples", "layers", "sample_metrics"}),
        ("toy/train_prior/steps", 30, {"prior", "samples", "layers", "density_metrics", "sample_metrics"}),
        ("toy/train_prior/estimator/steps", 30, {"prior", "samples", "layers", "density_metrics", "sample_metrics"}),
        ("toy/prior/energy/hidden", 9, {"prior", "samples", "layers", "density_metrics", "sample_metrics"}),
        ("toy/evaluate_density", {"importance_samples": 7}, {"density_metrics"}),
        ("toy/evaluate_samples", {"reference": "validation"}, {"sample_metrics", "floor"}),
        ("toy/features", {"name": "classifier", "steps": 7}, {"features", "sample_metrics", "floor"}),
        ("toy/train_backbone/steps", 30, set(ROLES) - {"dataset", "features", "floor"}),
        ("toy/dataset/test_count", 400, set(ROLES)),
        ("toy/compute", {"threads": 2}, set(ROLES) - {"dataset"}),
        ("toy/compute", {"devices": 2}, set(ROLES) - {"dataset", "features", "floor"}),
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
    shared = {"backbone": 2, "prior": 2, "samples": 2, "features": 1, "floor": 1, "sample_metrics": 1, "layers": 1}
    jobs = {role: stage_job(two, variant, getattr(variant, role), 1) for role in shared}
    assert {role: job.parameters["compute"]["devices"] for role, job in jobs.items()} == shared
    several = {"backbone", "prior", "samples", "floor", "sample_metrics"}
    assert {role for role, job in jobs.items() if job.devices == 2} == several


def test_a_prior_that_is_not_learned_by_gradient_needs_one_device():
    mixture = {"prior": {"name": "mixture"}, "draw_samples": {"sampler": {"name": "ancestral"}}}
    variant = plan({"toy/compute": {"devices": 2}, "toy/variants/mixture": mixture}).variants["mixture"]
    assert (devices_of("train_prior", variant), devices_of("draw_samples", variant)) == (1, 2)


def test_prior_that_is_not_trained_by_a_chain_does_not_depend_on_how():
    change = {"toy/train_prior/steps": 30}
    mixture = {
        "toy/variants/mixture": {"prior": {"name": "mixture"}, "draw_samples": {"sampler": {"name": "ancestral"}}}
    }
    for name in ("gaussian", "mixture"):
        assert plan(mixture).variants[name].prior.id == plan({**mixture, **change}).variants[name].prior.id
    assert plan(mixture).variants["joint"].prior.id != plan({**mixture, **change}).variants["joint"].prior.id


@pytest.mark.parametrize(
    "change",
    [
        {"prior": {"energy": {"hidden": 9}}},
        {"draw_samples": {"sampler": {"steps": 50}}},
        {"evaluate_density": {"importance_samples": 7}},
        {"evaluate_samples": {"kernel_distance_subsets": 7}},
        {"evaluations": {"terms": {"name": "terms", "count": 200}}},
    ],
    ids=str,
)
def test_change_in_one_variant_moves_nothing_of_any_other(change):
    """Not even what is measured: no two variants share an evaluation of what they do not share."""
    extra = {"toy/variants/other": {**REFERENCE, "draw_samples": {"sampler": {"steps": 30}}}}
    edited = {"toy/variants/joint-k40": {"draw_samples": {"sampler": {"steps": 40}}} | change}
    before, after = plan(extra), plan({**extra, **edited})
    assert stages_of(before.variants["joint-k40"]) != stages_of(after.variants["joint-k40"])
    for name in ("gaussian", "joint", "other"):
        assert stages_of(before.variants[name]) == stages_of(after.variants[name])


def test_a_variant_that_is_added_or_removed_moves_nothing_of_the_others():
    more, less = {"toy/variants/wide": {"prior": {"energy": {"hidden": 9}}}}, {"toy/variants/joint-k40": DELETE}
    for changes in (more, less):
        other = plan(changes)
        for name in ("gaussian", "joint"):
            assert stages_of(plan().variants[name]) == stages_of(other.variants[name])


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


def test_each_kind_is_found_in_a_variant_and_its_module_exists():
    both = {"evaluations": {**REFERENCE["evaluations"], "cost": {"name": "cost"}}}
    variant = plan(INCEPTION | {"toy/variants/joint": both}).variants["joint"]
    assert [stage for kind in KINDS for stage in variant.stages(kind)] == sorted(
        variant.all_stages(), key=lambda stage: list(KINDS).index(stage.kind)
    )
    assert set(KINDS) - {stage.kind for stage in variant.all_stages()} == {"import_backbone", "train_joint"}
    assert all(find_spec(f"jebm.steps.{kind}") for kind in KINDS)


def test_folders_name_study_component_identity_and_seed():
    variant = plan().variants["joint"]
    prior, dataset, features = variant.prior, variant.dataset, variant.features
    assert str(prior.run_folder(3)) == f"runs/train_prior/toy-layerwise-{prior.id}/seed3"
    assert str(dataset.run_folder(3)) == f"data/digits-{dataset.id}"
    assert str(features.run_folder(3)) == f"runs/train_features/toy-classifier-{features.id}"
    assert prior.files(3)[0] == f"runs/train_prior/toy-layerwise-{prior.id}/seed3/weights.safetensors"
    assert prior.files(3)[-1] == f"runs/train_prior/toy-layerwise-{prior.id}/seed3/provenance.json"
    assert prior.job_name(3) == f"toy-layerwise-{prior.id}/seed3"
    assert features.job_name(None) == f"toy-classifier-{features.id}"
    assert str(prior.state_folder(3)) == f".jebm/state/train_prior/{prior.id}/seed3"


def test_no_reader_has_a_record_of_times_or_of_provenance_among_its_inputs():
    for job in study_jobs(plan()):
        if job.rule != "collect_metrics":  # it gathers what training took
            assert not [path for path in job.input_files if Path(path).name in ("record.json", "provenance.json")]


def test_files_of_a_study_are_those_of_all_its_seeds():
    found = plan()
    assert len(found.metric_files()) == 3 * 2 * 2
    assert {name for name, _ in found.metric_files()} == {"gaussian", "joint", "joint-k40"}
    files = found.figure_files("samples")
    assert len(set(files["runs"])) == 2 + 2 * 2  # images and manifest, samples of two variants and seeds
    assert files["metrics"] == []
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
    variants = [plans[name].variants["joint"] for name in ("toy", "other")]
    for one, two in zip(*(variant.all_stages() for variant in variants), strict=True):
        assert one.folder == two.folder


def test_digest_is_stable():
    """Recorded results carry these: a change of the function would orphan them all."""
    assert digest({"b": [1, 2.5, "x"], "a": None}) == digest({"a": None, "b": [1, 2.5, "x"]}) == "cacedc786a"


INCEPTION = {
    "assets": {"inception": {"file": "inception/inception-2015-12-05.pt"}},
    "toy/features": {"name": "inception", "weights": "inception"},
    "toy/tables/main/metrics": ["fid"],
}


def test_only_streamed_features_have_reference_statistics_of_their_own():
    assert {variant.reference for variant in plan().variants.values()} == {None}
    found = plan(INCEPTION)
    assert len(distinct(found, "reference")) == 1
    (job,) = [job for job in study_jobs(found) if job.rule == "reference_statistics"]
    assert job.inputs["outside"] == ("assets/inception/inception-2015-12-05.pt",)
    reads = {job.rule for job in study_jobs(found) if "reference" in job.inputs}
    assert reads == {"evaluate_samples", "evaluate_floor"}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"kernel_distance_subsets": 7, "precision_recall_neighbours": 5, "allow_singular": True}, True),
        ({"reference": "train"}, False),
        ({"max_stored_features": 70}, False),
    ],
)
def test_reference_statistics_depend_on_what_they_are_made_from(changes, same):
    def job(change):
        found = plan({**INCEPTION, **change})
        (one,) = [job for job in study_jobs(found) if job.rule == "reference_statistics"]
        return one.outputs, one.parameters

    before, after = job({}), job({"toy/evaluate_samples": changes})
    assert (before == after) == same


def test_how_a_metric_is_printed_is_a_parameter_of_what_prints_it():
    found = plan(
        {
            "toy/variants/white": {
                "evaluations": {"w": {"name": "whiteness", "kernel": {"name": "pcnl", "step_size": 0.3}}}
            }
        }
    )
    jobs = {(job.rule, job.name): job for job in study_jobs(found)}
    assert "declared" not in jobs["render_table", "toy/main"].parameters
    assert "noise_mean" in jobs["collect_metrics", "toy/metrics"].parameters["declared"]
