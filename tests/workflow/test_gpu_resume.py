"""Joint training on pixels of CIFAR-10, killed and resumed: the same bits. On a GPU by JEBM_CHECK_DEVICE=cuda."""

import os
import signal
import time

import pytest
import smoke

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
OWN_SERVER = True

TRAIN = ["jebm", "run", "train_joint", "cifar10", "--variant", "paper-mcmc", "--seed", "1"]


def test_a_killed_joint_training_goes_on_to_the_same_bits(workspace):
    smoke.prepare(workspace, "cifar10")
    params = workspace.params()
    params["cifar10"].setdefault("compute", {})["device"] = os.environ.get("JEBM_CHECK_DEVICE", "cpu")
    params["runtime"]["checkpoint_seconds"] = 0.1
    workspace.write_params(params)
    workspace.run("jebm", "run", "prepare_dataset", "cifar10", "--variant", "paper-mcmc")
    workspace.run(*TRAIN)
    undisturbed = weights(workspace)
    workspace.run("rm", "-rf", "runs/train_joint", ".jebm")
    process = workspace.start(*TRAIN)
    while not list(workspace.folder.glob(".jebm/state/train_joint/*/seed1/state.pt")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 75
    assert "going on from step" in workspace.run(*TRAIN).stderr
    assert weights(workspace) == undisturbed


def weights(space) -> dict[str, bytes]:
    folder = next(space.folder.glob("runs/train_joint/*/seed1"))
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
