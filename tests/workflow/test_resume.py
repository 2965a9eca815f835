"""No work is lost: kills at random moments, signals, full disks, damaged and hostile files, two processes at once."""

import os
import random
import resource
import signal
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.slow
OWN_SERVER = True

STAGES = {
    kind: ["jebm", "run", kind, "digits", "--variant", "short-run", "--seed", "1"]
    for kind in ("train_backbone", "train_prior")
}


@pytest.fixture
def prepared(new_tiny, tmp_path):
    """A tiny study whose training takes a few seconds and saves its state very often, with its data prepared."""
    space = new_tiny(tmp_path)
    params = space.params()
    params["runtime"]["checkpoint_seconds"] = 0.1
    params["digits"]["train_backbone"]["steps"] = 500
    params["digits"]["train_prior"] |= {"steps": 200}
    space.write_params(params)
    space.run("jebm", "run", "prepare_dataset", "digits", "--variant", "short-run")
    return space


def published(space, stage: str) -> dict[str, bytes]:
    """Weights and history that a stage left."""
    folder = next(space.folder.glob(f"runs/{stage}/*/seed1"))
    return {name: (folder / name).read_bytes() for name in ("weights.safetensors", "history.csv")}


def state_file(space, stage: str):
    return next(iter(space.folder.glob(f".jebm/state/{stage}/*/seed1/state.pt")), None)


def when_training(space, stage: str, timeout: float = 60):
    """Wait for the first saved state."""
    end = time.monotonic() + timeout
    while state_file(space, stage) is None:
        assert time.monotonic() < end, "no state was saved"
        time.sleep(0.02)


def when_saved_again(space, stage: str, process) -> None:
    """Wait until a process has saved a state of its own."""
    before = path.stat().st_mtime_ns if (path := state_file(space, stage)) else None
    while process.poll() is None:
        path = state_file(space, stage)
        try:
            if path and path.stat().st_mtime_ns != before:
                return
        except FileNotFoundError:
            pass  # between two renames
        time.sleep(0.01)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", STAGES)
def test_ten_kills_leave_the_same_weights_to_the_bit(prepared, stage):
    params = prepared.params()
    params["digits"]["train_backbone"]["steps"] = 2000 if stage == "train_backbone" else 50
    params["digits"]["train_prior"] |= {"steps": 1000, "learning_rate": 3.0e-4}
    prepared.write_params(params)
    if stage == "train_prior":
        prepared.run(*STAGES["train_backbone"])
    prepared.run(*STAGES[stage])
    undisturbed = published(prepared, stage)
    prepared.run("rm", "-rf", f"runs/{stage}", ".jebm/state", ".jebm/results")

    rng, resumed = random.Random(0), 0
    for kill in range(10):
        process = prepared.start(*STAGES[stage])
        if kill % 3 < 2:  # two in three while it trains, the others while it starts
            when_saved_again(prepared, stage, process)
        time.sleep(rng.uniform(0.0, 0.5))
        assert process.poll() is None, f"it ended before kill {kill}: the run is too short for this machine"
        process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))
        resumed += "going on from step" in process.communicate()[0]
    prepared.run(*STAGES[stage])
    assert resumed >= 5
    assert published(prepared, stage) == undisturbed


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], ids=["SIGTERM", "SIGUSR1", "SIGINT"]
)
def test_a_signal_saves_and_exits_with_the_reserved_code(prepared, number):
    process = prepared.start(*STAGES["train_backbone"])
    when_training(prepared, "train_backbone")
    process.send_signal(number)
    output = process.communicate()[0]
    assert process.returncode == 75
    assert "run the same command to go on" in output
    assert "Traceback" not in output
    assert "going on from step" in prepared.run(*STAGES["train_backbone"]).stderr


def test_snakemake_retries_go_on_after_a_preemption(prepared):
    process = prepared.start("snakemake", "--cores", "1", "--retries", "1", *_weights_target(prepared))
    when_training(prepared, "train_backbone")
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.name() != "bash":  # the trainer, not the shell that Snakemake waits for
            child.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 0, process.stdout.read()
    logs = "".join(path.read_text() for path in prepared.folder.glob("logs/train_backbone/*.log"))
    assert "going on from step" in logs


def test_ctrl_c_saves_and_says_how_to_go_on(prepared):
    command = ["snakemake", "--cores", "1", *_weights_target(prepared)]
    process = prepared.start(*command, start_new_session=True)
    when_training(prepared, "train_backbone")
    monitored = prepared.folder / ".snakemake/locks/jebm"
    assert monitored.exists()
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all processes of the foreground
    last = process.communicate()[0].splitlines()[-1]
    assert not monitored.exists()
    assert process.returncode == 1
    assert last.startswith("interrupted: all finished results are kept, and the state of 1 unfinished training; ")
    assert last.endswith(f"the same command goes on: {' '.join(command)}")
    prepared.run(*command)
    logs = "".join(path.read_text() for path in prepared.folder.glob("logs/train_backbone/*.log"))
    assert "going on from step" in logs


def test_sigterm_to_snakemake_finishes_what_runs_and_says_how_to_go_on(prepared):
    """Other targets are left: the whole study is asked for while its first training runs."""
    command = ["snakemake", "--cores", "1", "digits"]
    process = prepared.start(*command)
    when_training(prepared, "train_backbone")
    process.send_signal(signal.SIGTERM)
    last = process.communicate()[0].splitlines()[-1]
    assert process.returncode == 1
    assert last == f"stopped by SIGTERM: all finished results are kept; the same command goes on: {' '.join(command)}"
    assert published(prepared, "train_backbone")
    prepared.run(*command)


def test_a_killed_snakemake_loses_nothing(prepared):
    target = _weights_target(prepared)
    process = prepared.start("snakemake", "--cores", "1", *target, start_new_session=True)
    when_training(prepared, "train_backbone")
    assert (prepared.folder / "logs/server.log").exists() == (sys.platform == "linux")
    subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
    process.wait()
    time.sleep(0.2)
    prepared.run("snakemake", "--cores", "1", *target)
    logs = "".join(path.read_text() for path in prepared.folder.glob("logs/train_backbone/*.log"))
    assert "going on from step" in logs


def _weights_target(space) -> list[str]:
    """The backbone's weights, as Snakemake names them."""
    listed = space.run("jebm", "list").stdout
    folder = next(line.split()[1] for line in listed.splitlines() if line.strip().startswith("train_backbone"))
    return [f"{folder}/seed1/weights.safetensors"]


def test_a_full_disk_costs_checkpoints_not_the_run(prepared):
    """Writes of more than a few kilobytes fail in the kernel, as on a full disk: first all saves, then the result."""
    limited = prepared.run(
        *STAGES["train_backbone"],
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
    )
    assert limited.returncode == 1
    assert "this checkpoint could not be saved (File too large); going on without it" in limited.stderr
    assert limited.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in limited.stderr
    assert not list(prepared.folder.glob("runs/train_backbone/*/seed1/weights.safetensors"))
    prepared.run(*STAGES["train_backbone"])


def test_the_second_process_on_a_run_is_refused(prepared):
    first = prepared.start(*STAGES["train_backbone"])
    when_training(prepared, "train_backbone")
    second = prepared.run(*STAGES["train_backbone"], check=False)
    assert second.returncode == 1
    assert "another process is already working on this" in second.stderr
    first.communicate()
    assert first.returncode == 0


@pytest.mark.parametrize("damage", ["truncated", "bit flipped"])
def test_a_damaged_state_gives_way_to_the_previous_one(prepared, damage):
    process = prepared.start(*STAGES["train_backbone"])
    when_training(prepared, "train_backbone")
    time.sleep(0.5)
    process.kill()
    process.communicate()
    path = state_file(prepared, "train_backbone")
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(
        content[:half] if damage == "truncated" else content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    )
    done = prepared.run(*STAGES["train_backbone"])
    assert f"{path.relative_to(prepared.folder)} is truncated or damaged; it is not used" in done.stderr
    assert "going on from step" in done.stderr


def test_a_state_of_other_code_is_not_resumed(prepared):
    process = prepared.start(*STAGES["train_backbone"])
    when_training(prepared, "train_backbone")
    process.kill()
    process.communicate()
    module = prepared.folder / "jebm/training/elbo.py"
    module.write_text(module.read_text().replace("-log_px +", "0.0 - log_px +"))
    done = prepared.run(*STAGES["train_backbone"])
    assert "belongs to a run with other code; it is not resumed" in done.stderr
    assert "going on" not in done.stderr


def test_a_hostile_checkpoint_is_an_error_and_runs_nothing(prepared):
    prepared.run(*STAGES["train_backbone"])
    weights = next(prepared.folder.glob("runs/train_backbone/*/seed1/weights.safetensors"))
    trap = prepared.folder / "executed"
    weights.write_bytes(b"cos\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR.")
    draw = ["jebm", "run", "draw_samples", "digits", "--variant", "gaussian", "--seed", "1"]
    named = weights.relative_to(prepared.folder)
    vouched = prepared.run(*draw, check=False)
    assert f"{named}: is not what the job made that wrote it" in vouched.stderr
    weights.with_name("provenance.json").unlink()
    read = prepared.run(*draw, check=False)
    assert f"{named}: corrupt or not a file of jebm" in read.stderr
    for done in (vouched, read):
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
    assert not trap.exists()


def test_finished_work_comes_back_when_the_edit_that_replaced_it_is_undone(prepared):
    target = _weights_target(prepared)
    prepared.run("snakemake", "--cores", "1", *target)
    before = published(prepared, "train_backbone")
    module = prepared.folder / "jebm/training/elbo.py"
    text = module.read_text()
    module.write_text(text.replace("-log_px +", "-1.01 * log_px +"))
    prepared.run("snakemake", "--cores", "1", *target)
    assert published(prepared, "train_backbone") != before
    module.write_text(text)
    prepared.run("snakemake", "--cores", "1", *target)
    assert published(prepared, "train_backbone") == before
    (log,) = prepared.folder.glob("logs/train_backbone/*.log")
    assert "taken from .jebm/results" in log.read_text()
