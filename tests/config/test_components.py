"""Components: what params.yaml may say is what the constructors take, and saying it needs no torch."""

import inspect
import subprocess
import sys

import pytest
from oracles import spec as oracle_spec

from jebm.config.catalogue import COMPONENTS, FIGURES, IMPORTERS
from jebm.config.components import _model, build, build_labelled, component_class, load, names_with, traits_of
from jebm.models.energies.base import LayerEnergy
from jebm.pipeline.jobs import component_targets

ALL = [(kind, name) for kind, names in COMPONENTS.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_schema_is_read_from_the_constructor(kind, name):
    arguments = inspect.signature(component_class(kind, name).__init__).parameters.values()
    expected = {
        a.name: (a.default is not a.empty, a.default) for a in arguments if a.kind is inspect.Parameter.KEYWORD_ONLY
    }
    found = {
        key: (not field.is_required(), inspect.Parameter.empty if field.is_required() else field.default)
        for key, field in _model(kind, name).model_fields.items()
        if key != "name"
    }
    assert found == expected


def test_every_registered_function_exists():
    fits = [fit for name in COMPONENTS["prior"] if (fit := traits_of("prior", name).fit)]
    figures = [target for target, _ in FIGURES.values()]
    for target in [*IMPORTERS.values(), *figures, *fits]:
        assert callable(load(target))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_traits_are_the_attributes_of_the_class(kind, name):
    class_, found = component_class(kind, name), vars(traits_of(kind, name))
    assert found == {trait: getattr(class_, trait) for trait in found}


def test_traits_follow_base_classes_and_are_not_those_of_others():
    assert traits_of("prior", "ncp").by_gradient
    assert traits_of("prior", "ncp").estimators == ()
    assert traits_of("prior", "ebm").estimators == tuple(COMPONENTS["estimator"])
    assert names_with("prior", "normalised") == ["gaussian", "mixture", "flow", "diffusion"]
    assert names_with("prior", "exact") == ["gaussian", "mixture", "flow", "aggregate-posterior"]
    assert names_with("energy", "layered") == ["layerwise", "context", "cumulative", "convolutional"]


@pytest.mark.parametrize("name", COMPONENTS["prior"])
def test_traits_of_a_prior_do_not_contradict_each_other(name):
    prior = traits_of("prior", name)
    assert prior.fit is not None or not prior.by_gradient
    assert prior.by_gradient or not (prior.estimators or prior.contrastive)
    assert prior.evaluable or not prior.normalised


@pytest.mark.parametrize("name", COMPONENTS["energy"])
def test_an_energy_is_layered_if_it_has_a_term_per_layer(name):
    assert traits_of("energy", name).layered == issubclass(component_class("energy", name), LayerEnergy)


@pytest.mark.parametrize("name", COMPONENTS["sampler"])
def test_a_sampler_needs_something_that_a_prior_has(name):
    assert names_with("prior", traits_of("sampler", name).needs)


def test_component_is_built_with_its_parameters():
    spec = oracle_spec("backbone", name="perceptron", latent_dims=[4, 3, 2], hidden=5, scale_limit=0.5)
    backbone = build("backbone", spec, (1, 2, 2))
    assert backbone.latent_shapes == ((4,), (3,), (2,))
    assert backbone.scale_limit == 0.5
    assert backbone.decoder[0].out_features == 5


def test_labelled_blocks_take_the_parameters_of_their_class_and_are_built_in_order():
    kernel = {"name": "langevin", "step_size": 0.1}
    chains = {"b": {"kernel": kernel, "space": "z"}, "a": {"kernel": kernel}}
    block = _model("evaluation", "chain-comparison").model_validate({"name": "chain-comparison", "chains": chains})
    built = build_labelled(block.chains)
    assert list(built) == ["b", "a"]
    assert built["b"].kernel.step_size == 0.1
    assert built["b"].space.__name__ == "Latent"
    assert "jebm.sampling.langevin:Langevin" in component_targets(block)
    assert "jebm.evaluations.chain_comparison:ChainSetup" in component_targets(block)


def test_reading_parameters_and_help_do_not_import_torch():
    code = (
        "import sys, jebm.cli.main, jebm.pipeline.workflow; jebm.cli.job.read_params; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_file_of_a_component_is_called_like_its_registered_name():
    """A package may stand in the place of a file, with the class in one of its modules."""
    for components in COMPONENTS.values():
        for name, target in components.items():
            parts = target.partition(":")[0].split(".")
            assert name.replace("-", "_") in parts[-2:], f"{name}: {target}"
