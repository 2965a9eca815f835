"""Which priors, samplers, energies and chains go together, and what is measured of a prior without a density."""

import pytest
from toy import params

from jebm.config.read import parse_params
from jebm.errors import ParamsError
from jebm.pipeline.jobs import study_jobs
from jebm.pipeline.study import make_plan

KERNEL = {"name": "pcnl", "step_size": 0.3}
SEQUENTIAL = {"name": "sequential", "kernel": KERNEL, "steps": 20}
PRIOR = {"name": "sequential", "energy": {"name": "layerwise", "hidden": 8}}
RIGHT = {"prior": PRIOR, "draw_samples": {"sampler": SEQUENTIAL}}
NCP = {"name": "ncp", "energy": {"name": "concatenated", "hidden": 8}}


def plan(**changes):
    return make_plan(parse_params(params(changes)))["toy"]


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"prior": PRIOR}, "'chain' can't draw from the prior 'sequential', only from gaussian, mixture, ebm and ncp"),
        ({"draw_samples": {"sampler": SEQUENTIAL}}, "can't draw from the prior 'ebm', only from sequential; use"),
        ({"prior": PRIOR, "draw_samples": {"sampler": {"name": "ancestral"}}}, "only from gaussian and mixture"),
        (
            RIGHT | {"prior": {"name": "sequential", "energy": {"name": "concatenated"}}},
            "prior.energy.name: 'concatenated' has no term per layer",
        ),
        ({"prior": NCP}, "train_prior.chain: the prior 'ncp' is learned without a chain: set it to null"),
        ({"train_prior": {"chain": None}}, "train_prior.chain: the prior 'ebm' needs one"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(variant, message):
    with pytest.raises(ParamsError) as error:
        parse_params(params({"toy/variants/odd": variant}))
    assert message in str(error.value)
    assert "toy.variants.odd" in str(error.value)


def test_chain_that_is_not_used_is_no_part_of_a_noise_contrastive_prior():
    ncp = {"prior": NCP, "train_prior": {"chain": None}}
    known = plan(**{"toy/variants/ncp": ncp})
    longer = plan(**{"toy/variants/ncp": ncp, "toy/train_prior/chain/steps": 6})
    assert longer.variants["ncp"].prior.id == known.variants["ncp"].prior.id
    assert longer.variants["joint"].prior.id != known.variants["joint"].prior.id
    slower = plan(**{"toy/variants/ncp": ncp, "toy/train_prior/steps": 11})
    assert slower.variants["ncp"].prior.id != known.variants["ncp"].prior.id


def test_density_of_a_sequential_prior_is_not_evaluated():
    found = plan(**{"toy/variants/sequential": RIGHT})
    without = plan()
    sequential = found.variants["sequential"]
    assert sequential.density_metrics is None
    assert sequential.sample_metrics.parent == sequential.samples
    assert found.variants["joint"].density_metrics == without.variants["joint"].density_metrics
    made = {job.parameters.get("id") for job in study_jobs(found)}
    assert sequential.sample_metrics.id in made
    assert sum(job.rule == "evaluate_density" for job in study_jobs(found)) == sum(
        job.rule == "evaluate_density" for job in study_jobs(without)
    )
    files = [path for name, path in found.metric_files() if name == "sequential"]
    assert files == [f"{sequential.sample_metrics.run_folder(seed)}/metrics.json" for seed in found.seeds]


def test_figure_of_a_density_that_is_not_known_is_refused():
    with pytest.raises(ParamsError, match=r"figures\.energies: 'sequential' has no density"):
        plan(**{"toy/variants/sequential": RIGHT, "toy/figures/energies": ["sequential"]})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kernel", {"name": "pcnl"}, "toy.train_prior.chain.kernel.step_size: is required, but missing"),
        ("kernel", {"name": "pncl"}, "did you mean 'pcnl'?"),
        ("steps", 0, "toy.train_prior.chain.steps: "),
        ("step", 5, "toy.train_prior.chain.step: unknown key; did you mean 'steps'?"),
    ],
)
def test_mistake_in_a_chain_that_may_be_null_names_its_key(key, value, message):
    with pytest.raises(ParamsError) as error:
        parse_params(params({f"toy/train_prior/chain/{key}": value}))
    assert message in str(error.value)
