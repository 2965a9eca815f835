"""Copies of the repository with a study small enough to run in a test."""

import os
import sys
from pathlib import Path

import pytest
from workspace import Workspace

from jebm.forkserver.client import ADDRESS
from jebm.forkserver.server import ForkServer


def shrink(params: dict) -> dict:
    """The digits study alone, with the same rules and fewer of everything."""
    for name in [name for name in params if name not in ("digits", "core_studies", "runtime", "presets")]:
        del params[name]
    params["default_studies"] = ["digits"]
    study = params["digits"]
    study["seeds"] = [1]
    study["dataset"] |= {"ood_count": 40, "ood_sets": ["uniform", "overlay"]}
    study["features"] = {"name": "classifier", "steps": 40}
    study["backbone"] |= {"hidden": 32}
    study["train_backbone"] |= {"steps": 60}
    # As in the study's preset `short-run-training`, with shorter chains.
    training = study["presets"]["short-run-training"]
    study["train_prior"] |= training["train_prior"] | {"steps": 10, "warmup_steps": 2}
    study["train_prior"]["estimator"]["steps"] = 3
    study["draw_samples"] |= training["draw_samples"]
    study["draw_samples"] |= {"count": 200}
    study["evaluate_samples"] |= {"kernel_distance_subsets": 5}
    study["evaluate_density"] |= {"importance_samples": 5, "detection_samples": 3, "partition_samples": 500}
    study["evaluate_density"]["annealing"] = {"temperatures": 5, "chains": 20, "start_steps": 5}
    variants = study["variants"]
    variants["mixture"]["prior"]["components"] = [2, 3]
    study["variants"] = {
        "gaussian": variants["gaussian"],
        "mixture": variants["mixture"],
        "short-run": {"draw_samples": {"sampler": {"steps": 4}}},
        "short-run-density": {"draw_samples": {"sampler": {"name": "resampling", "pool": 500}}},
    }
    study["tables"]["main"]["variants"] = list(study["variants"])
    study["tables"] = {name: study["tables"][name] for name in ("main", "detection-auroc")}
    detection = study["tables"]["detection-auroc"]
    detection["variants"] = ["gaussian", "mixture", "short-run-density"]
    detection["scores"]["short-run-density"] = detection["scores"].pop("likelihood")
    study["headline"] = {"fd_short_run": {"variants": ["short-run"], "metric": "fd"}}
    study["figures"] = {"samples": ["gaussian", "short-run"], "langevin-steps": ["gaussian", "short-run"]}
    return params


@pytest.fixture(scope="session")
def server_address(tmp_path_factory: pytest.TempPathFactory):
    """The address of a fork server for many runs of Snakemake: each would import the libraries for 5 s."""
    if sys.platform != "linux":
        yield None
        return
    server = ForkServer(tmp_path_factory.mktemp("server") / "server.log")
    del os.environ[ADDRESS]
    yield server.address
    server.stop()


@pytest.fixture(autouse=True, scope="module")
def _one_server(request: pytest.FixtureRequest):
    """Runs of Snakemake in a module share a server, unless the module says ``OWN_SERVER = True``: where Snakemake is
    killed, its own server has to see it."""
    if getattr(request.module, "OWN_SERVER", False) or not (address := request.getfixturevalue("server_address")):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ADDRESS, address)
        yield


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A fresh copy with the repository's own parameters."""
    return Workspace(tmp_path)


@pytest.fixture(scope="session")
def new_copy():
    """Makes a copy with the repository's own parameters."""
    return Workspace


@pytest.fixture(scope="session")
def new_tiny():
    """Makes a copy with the tiny study, which has not run yet."""

    def make(folder: Path) -> Workspace:
        space = Workspace(folder)
        space.write_params(shrink(space.params()))
        return space

    return make


@pytest.fixture(scope="session")
def tiny(new_tiny, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy whose tiny study has run to the end, on two cores."""
    space = new_tiny(tmp_path_factory.mktemp("tiny"))
    space.first_run = space.run("snakemake", "--cores", "2")
    return space
