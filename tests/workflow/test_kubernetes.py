"""The Job of Kubernetes, run by a stand-in: to the end, over stops and evictions, and a failure that is one."""

import os
import time

import pytest
import yaml
from local_kubernetes import Cluster, RefusedError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
OWN_SERVER = True


def start(space, target: str = "digits", **options):
    """Create the Job of the tiny study, or of one target of it, on a cluster whose volume is the working copy."""
    asked = [f"--{name}={value}" for name, value in options.items()]
    printed = space.run("jebm", "kubernetes", "digits", "--image=jebm", "--claim=disk", "--cpus=2", *asked).stdout
    environment = {key: value for key, value in space.environment.items() if not key.startswith("SLURM_")}
    manifest = yaml.safe_load(printed)
    manifest["spec"]["template"]["spec"]["containers"][0]["command"][-1] = target
    return Cluster({"disk": space.folder}, environment).create(manifest)


@pytest.fixture
def prepared(new_tiny, tmp_path):
    space = new_tiny(tmp_path)
    params = space.params()
    params["digits"]["train_backbone"]["steps"] = 3000
    space.write_params(params)
    return space


def when_training(space, job) -> None:
    end = time.monotonic() + 300
    while not any(
        "step" in path.read_text(encoding="utf-8") for path in space.folder.glob("logs/train_backbone/*.log")
    ):
        assert time.monotonic() < end, job.output
        time.sleep(0.1)


def test_a_pod_that_is_stopped_saves_its_state_and_the_next_one_goes_on(prepared):
    job = start(prepared)
    when_training(prepared, job)
    job.stop_pod()
    assert job.wait(600) == "succeeded", job.output
    assert job.pods == [75, 0]
    logs = "".join(path.read_text(encoding="utf-8") for path in prepared.folder.glob("logs/train_backbone/*.log"))
    assert "going on from step" in logs
    assert (prepared.folder / "results/digits/tables/main.md").exists()


def test_an_eviction_costs_no_restart(prepared):
    listed = prepared.run("jebm", "list").stdout
    stage = next(line.split()[1] for line in listed.splitlines() if line.strip().startswith("train_backbone"))
    job = start(prepared, f"{stage}/seed1/weights.safetensors", restarts=0)
    when_training(prepared, job)
    job.stop_pod(disrupted=True)
    assert job.wait(600) == "succeeded", job.output
    assert job.pods == [75, 0]


def test_a_run_that_fails_is_not_repeated(prepared):
    params = prepared.params()
    params["digits"]["train_backbone"] |= {"learning_rate": 1.0e12}
    prepared.write_params(params)
    job = start(prepared)
    assert job.wait(600) == "failed"
    assert job.pods == [1], job.output


def test_the_stand_in_refuses_what_kubernetes_refuses(prepared):
    printed = prepared.run("jebm", "kubernetes", "digits", "--image=jebm", "--claim=disk", "--gpus=1").stdout
    manifest = yaml.safe_load(printed)
    with pytest.raises(RefusedError, match="disk not found"):
        Cluster({}, dict(os.environ)).create(manifest)
    del manifest["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    with pytest.raises(RefusedError, match="Limit must be set"):
        Cluster({"disk": prepared.folder}, dict(os.environ)).create(manifest)
