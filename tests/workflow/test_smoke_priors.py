"""Each learned prior on a deep backbone in smoke size: from archives to a table and the figure of cost."""

import pytest
from smoke import prepare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STUDY = "cifar10_deep_scratch"
KERNEL = {"name": "pcnl", "step_size": 0.3}
CONTEXT = {"name": "context", "hidden": 4, "depth": 1}
MIXTURE = {"name": "mixture", "components": [1], "draws": 1}
FLOW = {"name": "flow", "transforms": 1, "hidden": 4, "depth": 1, "bins": 2, "steps": 4, "batch_size": 10, "draws": 1}
IMPORTANCE = {"name": "importance", "pool": 20, "min_effective": 0.0}
SHORT_RUN = {"name": "short-run", "kernel": KERNEL, "steps": 2, "space": "whitened", "adaptation_steps": 0}
SHORT = {"steps": 4, "select": None, "energy_l2": 0.0}


def variant(prior, sampler, estimator=None):
    return {
        "prior": prior,
        "train_prior": {**SHORT, "estimator": estimator},
        "draw_samples": {"sampler": sampler},
        "evaluations": {"cost": {"name": "cost"}},
    }


LEVELS = {"name": "levels", "kernel": KERNEL, "steps": 2}
POOL = {"name": "resampling", "pool": 60}
VARIANTS = {
    "flow": variant(FLOW, {"name": "ancestral"}),
    "flow-base": variant({"name": "ebm", "energy": CONTEXT, "base": FLOW}, POOL, IMPORTANCE),
    "diffusion": variant({"name": "diffusion", "hidden": 8, "ode_steps": 2}, {"name": "denoising", "steps": 3})
    | {"evaluations": {"cost": {"name": "cost"}, "ode": {"name": "ode-error", "count": 10}}},
    "recovery-t3": variant({"name": "recovery", "energy": CONTEXT}, LEVELS, SHORT_RUN),
    "multi-stage": variant(
        {"name": "multi-stage", "energy": CONTEXT, "stages": 2, "proposal": MIXTURE, "walkers": 8}, POOL
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, new_copy):
    space = new_copy(tmp_path_factory.mktemp("priors"))
    prepare(space, STUDY)
    content = space.params()
    study = content[STUDY]
    study["variants"] = {"gaussian": study["variants"]["gaussian"], **VARIANTS}
    study["headline"] = {}
    metrics = ["fid", "parameters_prior", "training_operations", "sampling_operations"]
    study["tables"] = {"main": {"metrics": metrics, "caption": "Learned priors in smoke size."}}
    study["figures"] = {"pareto": list(VARIANTS)}
    space.write_params(content)
    space.run("snakemake", "--cores", "2", STUDY)
    return space


def test_every_prior_is_measured_and_counted(finished):
    lines = finished.read(f"results/{STUDY}/tables/main.md").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    rows = {label: values for label, *values in cells}
    assert set(VARIANTS) < set(rows)
    for name in VARIANTS:
        assert all(float(cell.replace(",", "").split()[0].strip("*")) > 0 for cell in rows[name]), (name, rows[name])
    metrics = finished.read(f"results/{STUDY}/metrics.csv")
    assert f"{STUDY},diffusion,1,ode_error" in metrics


def test_the_figure_of_cost_is_drawn(finished):
    assert (finished.folder / f"results/{STUDY}/figures/pareto.png").stat().st_size > 10_000
