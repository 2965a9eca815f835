"""Jobs of two processes through the command line and Snakemake: one command, one message, one exit status."""

import signal
import subprocess
import time

import psutil
import pytest

from jebm.io.tensors import read_tensors

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OWN_SERVER = True

TRAIN = ["jebm", "run", "train_backbone", "digits", "--variant", "short-run", "--seed", "1"]
TORCHRUN = ["python", "-m", "jebm.runtime.torchrun", "--standalone"]


def two_devices(space, **backbone):
    """The tiny study on two processes, its data prepared."""
    params = space.params()
    params["runtime"]["checkpoint_seconds"] = 0.2
    params["digits"]["compute"] = {"devices": 2}
    params["digits"]["train_backbone"] |= {"steps": 300, **backbone}
    space.write_params(params)
    space.run("jebm", "run", "prepare_dataset", "digits", "--variant", "short-run")
    return space


@pytest.fixture(scope="module")
def prepared(new_tiny, tmp_path_factory):
    return two_devices(new_tiny(tmp_path_factory.mktemp("two")))


@pytest.fixture(scope="module")
def undisturbed(prepared):
    """What the run leaves when nothing happens to it."""
    done = prepared.run(*TRAIN)
    assert done.stdout == ""
    assert done.stderr.count("step 300/300") == 1
    return published(prepared)


@pytest.fixture
def fresh(prepared):
    """The same study before its training."""
    prepared.run("rm", "-rf", ".jebm", "runs")
    return prepared


def published(space) -> dict[str, bytes]:
    folder = next(space.folder.glob("runs/train_backbone/*/seed1"))
    return {name: (folder / name).read_bytes() for name in ("weights.safetensors", "history.csv")}


def ranks_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes of a job, rank 0 first, once they train."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = psutil.Process(process.pid).children(recursive=True)
        if len(found) == 2 and process.poll() is None:
            return sorted(found, key=lambda child: child.environ()["RANK"])
        time.sleep(0.05)
    raise AssertionError("the ranks did not start")


def when_training(space, process) -> list[psutil.Process]:
    """The ranks, when the first state was saved."""
    deadline = time.monotonic() + 120
    while not list(space.folder.glob(".jebm/state/train_backbone/*/seed1/state.pt")):
        assert time.monotonic() < deadline, "no state was saved"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    return ranks_of(process)


@pytest.mark.parametrize("target", ["torchrun", "rank 0", "rank 1"])
def test_a_signal_stops_all_processes_with_the_reserved_code(undisturbed, fresh, target):
    process = fresh.start(*TRAIN)
    ranks = when_training(fresh, process)
    number = signal.SIGUSR1 if target == "rank 1" else signal.SIGTERM
    (process if target == "torchrun" else ranks[int(target[-1])]).send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 75, output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert f"stopped by {number.name} at step" in errors[0]
    assert "Traceback" not in output
    assert not any(rank.is_running() for rank in ranks)
    assert "going on from step" in fresh.run(*TRAIN).stderr
    assert published(fresh) == undisturbed


def test_a_process_that_dies_brings_the_others_down_and_costs_a_checkpoint_interval(undisturbed, fresh):
    process = fresh.start(*TRAIN)
    ranks = when_training(fresh, process)
    ranks[1].kill()
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith("error: process 1 of this job was ended by SIGKILL (out of memory?)")
    assert "Traceback" not in output
    assert not ranks[0].is_running()
    assert "going on from step" in fresh.run(*TRAIN).stderr
    assert published(fresh) == undisturbed


def test_processes_do_not_outlive_torchrun(fresh):
    process = fresh.start(*TRAIN)
    ranks = when_training(fresh, process)
    process.kill()
    gone, alive = psutil.wait_procs(ranks, timeout=60)
    assert len(gone) == 2, alive
    assert "going on from step" in fresh.run(*TRAIN).stderr


def test_divergence_is_said_once_with_its_own_status(new_tiny, tmp_path):
    space = two_devices(new_tiny(tmp_path), learning_rate=1.0e30)
    done = space.run(*TRAIN, check=False)
    assert done.returncode == 3
    assert done.stderr.count("error: ") == 1
    assert "stopped before the optimiser stepped" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(space.folder.glob("runs/train_backbone/*/seed1/*"))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([*TORCHRUN, "--nproc-per-node=3", "-m", *TRAIN], "one for 2 devices, but was started as 3 processes"),
        (
            [*TORCHRUN, "--nproc-per-node=2", "-m", *TRAIN[:5], "nothing", *TRAIN[6:]],
            "name one of the variants of 'digits'",
        ),
    ],
    ids=["devices", "variant"],
)
def test_a_mistake_is_said_once(fresh, command, message):
    done = fresh.run(*command, check=False)
    assert done.returncode in (1, 2)
    assert done.stderr.count("error: ") == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_snakemake_runs_a_study_on_two_devices(new_tiny, tmp_path):
    """Both stages, joint training, draws and distances, in the log of the workflow as what they are."""
    space = two_devices(new_tiny(tmp_path), steps=30)
    params = space.params()
    study = params["digits"]
    chain = {key: value for key, value in study["train_prior"]["estimator"].items() if key != "name"}
    settings = {"steps": 20, "batch_size": 128, "learning_rate": 1.0e-3, "energy_learning_rate": 1.0e-3}
    study["variants"] = {
        "two-stage": {},
        "joint": {"train_joint": {"method": "variational", **settings, "chain": chain}},
    }
    study["headline"], study["tables"] = {}, {"main": {"variants": ["two-stage", "joint"], "metrics": ["fd"]}}
    study["figures"] = {}
    space.write_params(params)
    plan = space.run("snakemake", "-n", "--cores", "2").stdout
    two = {block.split(":")[0] for block in plan.split("\nrule ")[1:] if "    threads: 2\n" in block}
    shared = {"train_backbone", "train_prior", "train_joint", "draw_samples", "evaluate_samples", "evaluate_floor"}
    assert two == shared, "what several processes work on takes as many cores, and nothing else does"
    space.run("snakemake", "--cores", "2", timeout=580)
    assert "two-stage" in space.read("results/digits/tables/main.md")
    for path in space.folder.glob("runs/draw_samples/*/seed1/samples.safetensors"):
        samples, header = read_tensors(path)
        assert len(samples["images"]) == len(samples["eps"]) == len(samples["tilt"]) == 200
        assert len(samples["eps"].unique(dim=0)) == 200  # each process drew others
        assert header["diagnostics"]["langevin_steps"] == 20
    assert "Nothing to be done" in space.run("snakemake", "--cores", "2").stderr
