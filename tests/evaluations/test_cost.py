"""Counted costs: closed forms for networks whose products can be counted by hand, and each way to train and draw."""

import pytest
import torch
from toy import params

from jebm.config.components import build
from jebm.config.read import parse_params
from jebm.evaluations.cost import Operations, sampling_operations, training_operations
from jebm.pipeline.jobs import study_jobs
from jebm.pipeline.study import make_plan
from jebm.runtime.random import make_rng

KERNEL = {"name": "pcnl", "step_size": 0.3}
DIFFUSION = {
    "prior": {"name": "diffusion", "hidden": 10},
    "train_prior": {"estimator": None},
    "draw_samples": {"sampler": {"name": "denoising", "steps": 7}},
}
VELOCITY = 2 * ((6 + 16) * 10 + 10 * 10 + 10 * 6)
"""Operations of the network of ``DIFFUSION`` on six latents, forward."""


def variant(block):
    return parse_params(params({"toy/variants/own": block})).studies["toy"].variants["own"]


def costs(block, validation=30):
    own = variant(block)
    hierarchy = build("backbone", own.backbone, (1, 8, 8))
    hierarchy.initialise(make_rng("weights"))
    hierarchy.requires_grad_(False).eval()
    pixels = {split: torch.zeros(size, 1, 8, 8) for split, size in (("train", 30), ("validation", validation))}
    training, prior = training_operations(own, hierarchy, pixels, "cpu")
    with Operations() as counted:
        hierarchy.infer(torch.zeros(8, 1, 8, 8), make_rng("x"))
    return training, sampling_operations(own, prior.eval(), own.draw_samples.count, "cpu"), counted.total


def test_products_are_counted_forward_and_backward():
    weight = torch.randn(3, 4, requires_grad=True)
    x = torch.randn(5, 3, requires_grad=True)
    with Operations() as counted:
        y = (x @ weight).square().sum()
    assert counted.total == 2 * 5 * 3 * 4
    with Operations() as counted:
        y.backward()
    assert counted.total == 2 * 2 * 5 * 3 * 4


def test_gaussian_prior_costs_nothing():
    assert costs({"prior": {"name": "gaussian"}, "draw_samples": {"sampler": {"name": "ancestral"}}})[:2] == (0, 0)


def test_cost_of_denoising_is_that_of_its_network_and_training_grows_with_the_steps():
    training, sampling, inference = costs(DIFFUSION)
    assert sampling == 7 * VELOCITY
    # Backward: the gradients of all weights, and of the inputs of all layers but the first.
    assert training == 10 * (inference + 8 * (2 * VELOCITY + VELOCITY - 2 * (6 + 16) * 10))
    longer, _, _ = costs(DIFFUSION | {"train_prior": {"estimator": None, "steps": 35}})
    assert longer == 3.5 * training


def test_levels_cost_as_much_as_they_have_steps_and_levels():
    def sampled(levels, steps):
        block = {"prior": {"name": "recovery", "levels": levels, "energy": {"name": "concatenated", "hidden": 8}}}
        sampler = {"name": "levels", "kernel": KERNEL, "steps": steps}
        return costs(block | {"draw_samples": {"sampler": sampler}})[1]

    one = sampled(1, 4) - sampled(1, 3)
    assert one > 0
    assert sampled(3, 4) - sampled(3, 3) == pytest.approx(3 * one)


def test_a_pool_is_paid_once_for_a_set():
    def sampled(count):
        block = {"draw_samples": {"count": count, "sampler": {"name": "resampling", "pool": 400}}}
        return costs(block)[1] * count

    assert sampled(200) == pytest.approx(sampled(400))
    assert sampled(200) > 0


def test_steps_of_a_base_count_on_their_own():
    def trained(base_steps, steps):
        base = {"name": "flow", "transforms": 1, "hidden": 4, "depth": 1, "bins": 2, "steps": base_steps}
        block = {"prior": {"name": "ebm", "energy": {"name": "concatenated", "hidden": 4}, "base": base}}
        return costs(block | {"train_prior": {"steps": steps, "estimator": {"name": "importance", "pool": 9}}})[0]

    base, own = trained(4, 3) - trained(3, 3), trained(3, 4) - trained(3, 3)
    assert trained(10, 20) == pytest.approx(trained(3, 3) + 7 * base + 17 * own)
    assert base != own


def test_selection_of_a_flow_is_left_out():
    """Whatever the size of the validation split, which has one image here."""
    block = {"prior": {"name": "flow", "transforms": 1, "hidden": 4, "depth": 1, "bins": 2, "steps": 30}}
    block |= {"draw_samples": {"sampler": {"name": "ancestral"}}}
    assert costs(block)[0] == costs(block, validation=300)[0]


def test_an_em_fit_counts_as_a_hundred_iterations_of_each_candidate():
    def trained(components):
        prior = {"name": "mixture", "components": components, "draws": 3}
        return costs({"prior": prior, "draw_samples": {"sampler": {"name": "ancestral"}}})[::2]

    few, inference = trained([1])
    more, _ = trained([1, 2])
    draws, dimensions = 3 * 30, 6
    per_component = 100 * 4 * draws * dimensions**2
    assert few == pytest.approx(draws * inference / 8 + per_component, rel=1e-4)
    assert more - few == pytest.approx(2 * per_component, rel=1e-4)


def test_counts_belong_to_a_variant_s_prior_and_sampler():
    """A changed sampler asks for new counts; the job runs the code of the prior's training and of the sampler."""
    block = DIFFUSION | {"evaluations": {"cost": {"name": "cost"}}}
    plan = make_plan(parse_params(params({"toy/variants/own": block})))["toy"]
    other = DIFFUSION | {"evaluations": {"cost": {"name": "cost"}}, "draw_samples": {"sampler": {"name": "denoising"}}}
    changed = make_plan(parse_params(params({"toy/variants/own": other})))["toy"]
    stage = plan.variants["own"].evaluations["cost"]
    assert stage.kind == "count_operations"
    assert stage.id != changed.variants["own"].evaluations["cost"].id
    assert plan.variants["own"].prior.id == changed.variants["own"].prior.id
    (job,) = [job for job in study_jobs(plan) if job.rule == "count_operations" and job.name.endswith("seed0")]
    assert {"jebm.training.diffusion", "jebm.sampling.samplers.denoising", "jebm.evaluations.cost"} < job.entries
    assert set(job.inputs) == {"dataset"}
