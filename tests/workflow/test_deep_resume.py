"""Both stages of a deep study go on where they were killed: weights, history and adapted step size to the bit."""

import random
import signal
import time

import pytest
from smoke import prepare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OWN_SERVER = True

STAGES = {
    kind: ["jebm", "run", kind, "cifar10_deep_scratch", "--variant", "ours-k40", "--seed", "1"]
    for kind in ("train_backbone", "train_prior")
}


@pytest.fixture(scope="module")
def space(new_copy, tmp_path_factory):
    """The study of CIFAR-10 from scratch in smoke size, which saves its state very often, with its data prepared."""
    space = new_copy(tmp_path_factory.mktemp("deep"))
    prepare(space, "cifar10_deep_scratch")
    params = space.params()
    params["runtime"] = {"checkpoint_seconds": 0.1, "fork_server": False}
    params["cifar10_deep_scratch"]["train_backbone"]["recalibrate"] = {"passes": 3, "batch_size": 4}
    space.write_params(params)
    space.run("jebm", "run", "prepare_dataset", "cifar10_deep_scratch", "--variant", "ours-k40")
    return space


def published(space, stage):
    folder = next(space.folder.glob(f"runs/{stage}/*/seed1"))
    return {name: (folder / name).read_bytes() for name in ("weights.safetensors", "history.csv")}


def saved(space, stage):
    """When the state of a stage was last saved."""
    try:
        return next(space.folder.glob(f".jebm/state/{stage}/*/seed1/state.pt")).stat().st_mtime_ns
    except (StopIteration, FileNotFoundError):
        return None


@pytest.mark.parametrize("stage", STAGES)
def test_killed_stages_leave_the_same_weights_to_the_bit(space, stage):
    command, draw, resumed = STAGES[stage], random.Random(1), 0
    space.run(*command)
    undisturbed = published(space, stage)
    space.run("rm", "-rf", f"runs/{stage}", ".jebm/results")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        before, process = saved(space, stage), space.start(*command)
        while process.poll() is None and saved(space, stage) in (before, None):
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.2))
        process.send_signal(number)
        resumed += "going on from step" in process.communicate()[0]
    space.run(*command)
    assert resumed
    assert published(space, stage) == undisturbed
