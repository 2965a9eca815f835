"""Components: what params.yaml may say is what the constructors take, and saying it needs no torch."""

import inspect
import subprocess
import sys

import pytest
from oracles import spec as oracle_spec
from toy import params

from jebm.config.catalogue import COMPONENTS, FIGURES, FITS
from jebm.config.components import _model, build, build_labelled, component_class, load
from jebm.config.read import parse_params
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
    for target in [
        *(target for target, _ in FITS.values()),
        *(target for target, _ in FIGURES.values()),
    ]:
        assert callable(load(target))


def test_every_fit_belongs_to_a_prior_and_uses_blocks_that_exist():
    base = parse_params(params()).studies["toy"].base
    for name, (_, blocks) in FITS.items():
        assert name in COMPONENTS["prior"]
        assert all(hasattr(base, block) for block in blocks)


def test_component_is_built_with_its_parameters():
    spec = oracle_spec("backbone", name="chain", latent_dims=[4, 3, 2], hidden=5, sigma=0.2)
    backbone = build("backbone", spec, (1, 2, 2))
    assert backbone.latent_shapes == ((4,), (3,), (2,))
    assert backbone.sigma == 0.2
    assert backbone.decoder[0].out_features == 5


def test_labelled_blocks_take_the_parameters_of_their_class_and_are_built_in_order():
    kernel = {"name": "langevin", "step_size": 0.1}
    chains = {"b": {"kernel": kernel, "space": "z"}, "a": {"kernel": kernel}}
    block = _model("evaluation", "chains").model_validate({"name": "chains", "chains": chains})
    built = build_labelled(block.chains)
    assert list(built) == ["b", "a"]
    assert built["b"].kernel.step_size == 0.1
    assert built["b"].space.__name__ == "Latent"
    assert "jebm.sampling.langevin:Langevin" in component_targets(block)
    assert "jebm.evaluations.chains:ChainSetup" in component_targets(block)


def test_reading_parameters_and_help_do_not_import_torch():
    code = (
        "import sys, jebm.cli.main, jebm.pipeline.workflow; jebm.cli.job.read_params; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
