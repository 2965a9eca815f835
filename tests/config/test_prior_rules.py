"""Which priors, samplers, energies and chains go together, and what is measured of a prior without a density."""

import re
from pathlib import Path

import pytest
import yaml
from toy import params

from jebm.config.read import parse_params
from jebm.errors import ParamsError
from jebm.pipeline.jobs import study_jobs
from jebm.pipeline.study import make_plan

KERNEL = {"name": "pcnl", "step_size": 0.3}
SEQUENTIAL = {"name": "sequential", "kernel": KERNEL, "steps": 20}
PRIOR = {"name": "sequential", "energy": {"name": "layerwise", "hidden": 8}}
RIGHT = {"prior": PRIOR, "draw_samples": {"sampler": SEQUENTIAL}}
POSTERIOR = {"prior": {"name": "aggregate-posterior"}, "draw_samples": {"sampler": {"name": "ancestral"}}}
FLOW = {"name": "flow", "bins": 1}
RECOVERY = {"name": "recovery", "energy": {"name": "concatenated", "hidden": 8}}
STAGES = {"name": "multi-stage", "energy": {"name": "concatenated", "hidden": 8}}
IMPORTANCE = {"name": "importance", "pool": 10}
NCP = {"name": "ncp", "energy": {"name": "concatenated", "hidden": 8}}


def plan(**changes):
    return make_plan(parse_params(params(changes)))["toy"]


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (
            {"prior": PRIOR},
            "'mcmc' can't draw from the prior 'sequential', only from gaussian, mixture, flow, ebm, diffusion, ncp, ",
        ),
        ({"draw_samples": {"sampler": SEQUENTIAL}}, "can't draw from the prior 'ebm', only from sequential; use"),
        (
            {"prior": PRIOR, "draw_samples": {"sampler": {"name": "ancestral"}}},
            "only from gaussian, mixture, flow and aggregate-posterior",
        ),
        ({"prior": POSTERIOR["prior"]}, "can't draw from the prior 'aggregate-posterior', only from gaussian, "),
        (
            {"prior": POSTERIOR["prior"], "draw_samples": {"sampler": {"name": "resampling", "pool": 500}}},
            "can't draw from the prior 'aggregate-posterior'",
        ),
        (
            RIGHT | {"prior": {"name": "sequential", "energy": {"name": "concatenated"}}},
            "prior.energy.name: 'concatenated' has no term per layer",
        ),
        ({"prior": NCP}, "train_prior.estimator: the prior 'ncp' is learned without one: set it to null"),
        ({"train_prior": {"estimator": None}}, "train_prior.estimator: the prior 'ebm' needs one"),
        ({"prior": FLOW}, "variants.odd.prior.bins: "),
        (
            {"draw_samples": {"sampler": {"name": "denoising"}}},
            "sampler.name: 'denoising' can't draw from the prior 'ebm', only from diffusion; use 'mcmc'",
        ),
        (
            {"draw_samples": {"sampler": {"name": "levels", "kernel": KERNEL, "steps": 5}}},
            "sampler.name: 'levels' can't draw from the prior 'ebm', only from recovery; use 'mcmc'",
        ),
        (
            {"evaluations": {"ode": {"name": "ode-error"}}},
            "evaluations.ode.name: 'ode-error' needs the prior 'diffusion'",
        ),
        ({"prior": {"name": "diffusion"}}, "train_prior.estimator: the prior 'diffusion' is learned without one"),
        ({"prior": RECOVERY, "train_prior": {"estimator": IMPORTANCE}}, "can't be trained with 'importance', only"),
        ({"prior": RECOVERY | {"levels": 0}}, "variants.odd.prior.levels: "),
        ({"prior": RECOVERY | {"base": {"name": "mixture"}}}, "variants.odd.prior.base: unknown key"),
        ({"prior": STAGES}, "train_prior.estimator: the prior 'multi-stage' is learned without one"),
        ({"prior": STAGES | {"stages": 0}}, "variants.odd.prior.stages: "),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(variant, message):
    with pytest.raises(ParamsError) as error:
        parse_params(params({"toy/variants/odd": variant}))
    assert message in str(error.value)
    assert "toy.variants.odd" in str(error.value)


def test_estimator_that_is_not_used_is_no_part_of_a_noise_contrastive_prior():
    ncp = {"prior": NCP, "train_prior": {"estimator": None}}
    known = plan(**{"toy/variants/ncp": ncp})
    longer = plan(**{"toy/variants/ncp": ncp, "toy/train_prior/estimator/steps": 6})
    assert longer.variants["ncp"].prior.id == known.variants["ncp"].prior.id
    assert longer.variants["joint"].prior.id != known.variants["joint"].prior.id
    slower = plan(**{"toy/variants/ncp": ncp, "toy/train_prior/steps": 11})
    assert slower.variants["ncp"].prior.id != known.variants["ncp"].prior.id


@pytest.mark.parametrize("block", [RIGHT, POSTERIOR], ids=["sequential", "aggregate-posterior"])
def test_density_that_is_not_known_is_not_evaluated(block):
    found = plan(**{"toy/variants/other": block})
    without = plan()
    other = found.variants["other"]
    assert other.density_metrics is None
    assert other.sample_metrics.parent == other.samples
    assert found.variants["joint"].density_metrics == without.variants["joint"].density_metrics
    made = {job.parameters.get("id") for job in study_jobs(found)}
    assert other.sample_metrics.id in made
    assert sum(job.rule == "evaluate_density" for job in study_jobs(found)) == sum(
        job.rule == "evaluate_density" for job in study_jobs(without)
    )
    files = [path for name, path in found.metric_files() if name == "other"]
    assert files == [f"{other.sample_metrics.run_folder(seed)}/metrics.json" for seed in found.seeds]


@pytest.mark.parametrize("block", [RIGHT, POSTERIOR], ids=["sequential", "aggregate-posterior"])
def test_figure_of_a_density_that_is_not_known_is_refused(block):
    with pytest.raises(ParamsError, match=r"figures\.energies: 'other' has no density"):
        plan(**{"toy/variants/other": block, "toy/figures/energies": ["other"]})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kernel", {"name": "pcnl"}, "toy.train_prior.estimator.kernel.step_size: is required, but missing"),
        ("kernel", {"name": "pncl"}, "did you mean 'pcnl'?"),
        ("steps", 0, "toy.train_prior.estimator.steps: "),
        ("step", 5, "toy.train_prior.estimator.step: unknown key; did you mean 'steps'?"),
    ],
)
def test_mistake_in_an_estimator_that_may_be_null_names_its_key(key, value, message):
    with pytest.raises(ParamsError) as error:
        parse_params(params({f"toy/train_prior/estimator/{key}": value}))
    assert message in str(error.value)


def test_variants_that_the_page_on_priors_shows_are_accepted():
    text = (Path(__file__).parents[2] / "docs/priors.md").read_text(encoding="utf-8")
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])["variants"]
    found = parse_params(params({f"toy/variants/{name}": block for name, block in shown.items()}))
    priors = {variant.prior.name for variant in found.studies["toy"].variants.values()}
    assert {"flow", "diffusion", "recovery", "multi-stage"} < priors
