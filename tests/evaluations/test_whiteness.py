"""Whiteness with f = 0: closed forms on a funnel, real backbones, and the figure that shows it."""

import math

import pytest
import torch
from funnel import Funnel
from measured import by_name
from oracles import SIGMAS, spec
from toy import params

from jebm.config.components import build
from jebm.config.read import parse_params
from jebm.errors import DivergedError, ParamsError
from jebm.evaluations.whiteness import DENSITIES, moments
from jebm.io.filenames import ARRAYS
from jebm.io.tensors import write_tensors
from jebm.metrics.records import MetricRecord
from jebm.models.backbones.perceptron import PerceptronHierarchy
from jebm.models.backbones.residual import ResidualHierarchy
from jebm.models.energies.zero import ZeroPrior
from jebm.pipeline.study import make_plan
from jebm.report.figures import whiteness
from jebm.runtime.random import make_rng

UNADJUSTED = {"name": "langevin", "step_size": 0.4}
COUNT = 1000


def chain():
    return PerceptronHierarchy((1, 2, 2), latent_dims=[6, 3], hidden=8, depth=1)


def residual():
    return ResidualHierarchy(
        (1, 4, 4), layers_per_scale=[2, 1], latent_channels=2, resolutions=[2, 1], channels=[4, 8], inference_hidden=4
    )


def wide(hierarchy):
    """Random weights with heads so strong that σ depends on the layers above, as after training."""
    hierarchy.initialise(make_rng("wide"))
    with torch.no_grad():
        heads = [net[-1] for net in hierarchy.generator_nets] if isinstance(hierarchy, PerceptronHierarchy) else []
        heads += [layer.prior.layer for layer in getattr(hierarchy, "latent_layers", [])]
        for head in heads:
            head.weight *= 4
    return hierarchy.requires_grad_(False).eval()


@pytest.fixture
def measure(subject):
    def evaluate(hierarchy, **settings):
        subject.hierarchy = hierarchy
        block = {"name": "whiteness", "kernel": UNADJUSTED, "steps": 40, "count": COUNT} | settings
        record = MetricRecord(1)
        arrays = build("evaluation", spec("evaluation", **block)).evaluate(subject, record)
        return by_name(record.values), arrays

    return evaluate


def test_moments_by_hand():
    layers = torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[[0.0]], [[4.0]]])
    means, variances = moments(layers)
    assert means.tolist() == pytest.approx([math.sqrt((4 + 25) / 2), 2])
    assert variances.tolist() == pytest.approx([1, 8])


def test_funnel(measure):
    """With two dimensions below, the top one drifts to −2 under the biased density."""
    values, arrays = measure(Funnel(2))
    predicted = values["noise_variance_predicted"]
    noise = math.sqrt(predicted / COUNT)
    assert predicted == pytest.approx(1 / (1 - 0.4**2 / 4), rel=2e-3)
    assert values["noise_mean biased z2"] == pytest.approx(2, abs=SIGMAS * noise)
    assert values["noise_mean_worst biased"] == values["noise_mean biased z2"]
    assert values["noise_mean_worst exact"] < SIGMAS * noise
    assert values["noise_variance exact z1"] == pytest.approx(predicted, abs=SIGMAS * predicted / math.sqrt(COUNT))
    assert float(arrays["biased/draws"].mean()) == pytest.approx(-2, abs=SIGMAS * noise)
    assert abs(float(arrays["exact/draws"].mean())) < SIGMAS * noise


@pytest.mark.parametrize("backbone", [chain, residual])
@pytest.mark.parametrize("kernel", [UNADJUSTED, {"name": "pcnl", "step_size": 0.4}])
def test_real_backbones_stay_white_under_the_exact_density_alone(measure, backbone, kernel):
    """The mean of d dimensions' squares is that of a χ² of d degrees; its sd over n chains is √(2/d)/n."""
    hierarchy = wide(backbone())
    values, _ = measure(hierarchy, kernel=kernel)
    predicted = values["noise_variance_predicted"]
    for layer, dims in enumerate(hierarchy.layer_dims, 1):
        exact = values[f"noise_mean exact z{layer}"] ** 2 * COUNT / predicted
        assert exact < 1 + SIGMAS * math.sqrt(2 / dims)
        error = predicted * math.sqrt(2 / COUNT / dims)
        assert values[f"noise_variance exact z{layer}"] == pytest.approx(predicted, abs=SIGMAS * error)
    assert values["noise_mean_worst biased"] > 5 * values["noise_mean_worst exact"]
    # The bottom layer's σ enters no density but its own noise's: the biased one leaves it alone.
    assert values["noise_mean biased z1"] ** 2 * COUNT / predicted < 1 + SIGMAS * math.sqrt(2 / hierarchy.layer_dims[0])


def test_zero_prior_goes_through_the_whole_pass():
    """f = 0 and its gradient are computed, not assumed: what is not finite in the backbone would show."""
    hierarchy = wide(residual())
    eps = torch.randn(5, hierarchy.dimensions, generator=make_rng("zero")).requires_grad_(True)
    tilt = ZeroPrior(hierarchy).tilt(eps)
    assert torch.equal(tilt, torch.zeros(5))
    assert torch.equal(torch.autograd.grad(tilt.sum(), eps)[0], torch.zeros_like(eps))
    with torch.no_grad():
        hierarchy.latent_layers[0].prior.layer.bias[0] = math.nan
    assert torch.isnan(ZeroPrior(hierarchy).tilt(eps)).all()


def test_batches_are_the_same_population_size_and_repeat_to_the_bit(measure):
    first, _ = measure(Funnel(), count=50, batch_size=20, steps=3)
    again, _ = measure(Funnel(), count=50, batch_size=20, steps=3)
    assert first == again


def test_step_size_that_diverges_is_an_error(measure):
    with pytest.raises(DivergedError, match="chains are not finite after 400 steps"):
        measure(Funnel(), kernel={"name": "langevin", "step_size": 3.0}, steps=400)


def test_figure_shows_both_densities_from_the_top_layer_down(measure, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = {"name": "whiteness", "kernel": UNADJUSTED, "steps": 30, "count": 200}
    changes = {"toy/variants/joint": {"evaluations": {"white": block}}, "toy/figures": {"whiteness": ["joint"]}}
    plan = make_plan(parse_params(params(changes)))["toy"]
    for seed in plan.seeds:
        _, arrays = measure(Funnel(2), **block)
        write_tensors(plan.variants["joint"].evaluations["white"].run_folder(seed) / ARRAYS, arrays)
    assert len(plan.figure_files("whiteness")["runs"]) == 2 * len(plan.seeds)
    means, variances, histogram = whiteness.draw(plan, ["joint"]).axes
    lines = {line.get_label(): line for line in means.lines}
    assert lines["biased density"].get_ydata().tolist() == pytest.approx(arrays["biased/mean"].flip(0).tolist())
    assert [tick.get_text() for tick in means.get_xticklabels()] == ["z2", "z1"]
    assert float(variances.lines[-1].get_ydata()[0]) == pytest.approx(float(arrays["predicted"]))
    assert len(histogram.patches) == 80
    assert float(histogram.lines[0].get_xdata()[0]) == pytest.approx(
        min(float(arrays[f"{d}/draws"].min()) for d in DENSITIES)
    )


def test_figure_without_the_evaluation_is_refused():
    with pytest.raises(ParamsError, match=r"toy.figures.whiteness: 'joint' has no evaluation 'whiteness' to show"):
        parse_params(params({"toy/figures": {"whiteness": ["joint"]}}))
