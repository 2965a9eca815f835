"""A small study on a real Slurm: in one allocation and by one job per rule, with everything that may interrupt it.

No test depends on the speed of the machine: what has to happen during a training happens when it has saved a state.
"""

import importlib.util
import json
import random
import signal
import time
from datetime import datetime
from pathlib import Path

import pytest
import slurm as one_node
from fake_gpus import on_gpus, shared

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(7200)]
OWN_SERVER = True

PER_JOB = ["snakemake", "--workflow-profile", "profiles/slurm"]
FAST = ["--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "1"]
"""Status checks as often as a test wants them, not a cluster."""
TRAININGS = {"train_backbone": {"steps": 600}, "train_prior": {"steps": 300, "learning_rate": 3.0e-4}}
"""The trainings that are interrupted take some seconds."""
TIMES = {"provenance.json", "record.json", "timings.csv"}
"""Files that hold times."""
LONG = 5400
"""Seconds after which a run is taken to hang."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A Slurm of one node with two stand-ins for GPUs."""
    if reason := one_node.why_not():
        pytest.skip(reason)
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("snakemake-executor-plugin-slurm is not installed: make install")
    started = one_node.Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        yield started.start()
    finally:
        started.stop()


@pytest.fixture(scope="module")
def new_study(new_tiny):
    """Makes a study of two priors, whose trainings take some seconds and save their states often."""

    def make(folder):
        space = new_tiny(folder)
        params = space.params()
        params["runtime"]["checkpoint_seconds"] = 0.3
        study = params["digits"]
        for kind, settings in TRAININGS.items():
            study[kind] |= settings
        study["variants"] = {name: study["variants"][name] for name in ("gaussian", "short-run")}
        study["tables"] = {"main": study["tables"]["main"] | {"variants": list(study["variants"])}}
        study["figures"] = {"langevin-steps": study["figures"]["langevin-steps"]}
        space.write_params(params)
        return space

    return make


@pytest.fixture(scope="module")
def local(new_study, tmp_path_factory):
    """The study after a local run to which nothing happened."""
    space = new_study(tmp_path_factory.mktemp("local"))
    space.run("snakemake", "--cores", "2")
    return space


def results(space) -> dict[str, bytes]:
    """Every file of the study that holds no times."""
    files = [path for top in ("data", "runs", "results") for path in (space.folder / top).rglob("*") if path.is_file()]
    kept = [path for path in files if path.name not in TIMES and not _is_record(path, space.folder)]
    return {str(path.relative_to(space.folder)): path.read_bytes() for path in kept}


def _is_record(path: Path, folder: Path) -> bool:
    """Whether a file is the provenance record of a table, figure or collection."""
    return path.suffix == ".json" and path.relative_to(folder).parts[1].startswith(("collect_", "render_"))


def same(space, other) -> None:
    found, expected = results(space), results(other)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def training(space) -> str:
    """The weights of the backbone, as a target."""
    listed = space.run("jebm", "list").stdout
    stage = next(line.split()[1] for line in listed.splitlines() if line.strip().startswith("train_backbone"))
    return f"{stage}/seed1/weights.safetensors"


def submit_pilot(space, *targets: str, options: tuple[str, ...] = ()) -> str:
    """Submit targets to one allocation; the job's number."""
    asked = ("--cpus-per-task=2", "--mem=8G", "--parsable", *options)
    return space.run("sbatch", *asked, "workflow/pilot.sh", *targets).stdout.strip()


def ended(slurm, job: str) -> str:
    """The state of a job that has ended. Slurm lets a job that was queued again wait for two minutes."""
    waiting = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "PREEMPTED")
    slurm.wait_for(lambda: slurm.jobs().get(job) not in waiting, LONG)
    return slurm.jobs()[job]


def log(space, job: str) -> str:
    path = space.folder / f"jebm-{job}.log"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def logs(space, rule: str = "train_backbone") -> str:
    return "".join(path.read_text(encoding="utf-8") for path in space.folder.glob(f"logs/{rule}/*.log"))


def saved(space, rule: str = "train_backbone") -> int:
    """When a training has last saved a state; 0 before the first one."""
    times = [0]
    for path in space.folder.glob(f".jebm/state/{rule}/*/seed1/state.pt"):
        try:
            times.append(path.stat().st_mtime_ns)
        except FileNotFoundError:  # between two renames
            continue
    return max(times)


def when_training(slurm, space) -> None:
    """Wait until the training has saved a state."""
    slurm.wait_for(lambda: saved(space), 1800)


def went_on(space, other) -> None:
    """The training went on from a saved state, to the same weights."""
    assert "going on from step" in logs(space)
    assert (space.folder / training(space)).read_bytes() == (other.folder / training(other)).read_bytes()


def end_soon(slurm, job: str) -> None:
    """Let the wall time of a running job end in one to two minutes. Slurm sends the signal ahead of it by itself."""
    started = datetime.fromisoformat(slurm.fields("%S")[job])
    minutes = int((datetime.now() - started).total_seconds() // 60) + 2
    slurm.query("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")


def preempt(slurm) -> None:
    """Submit a job of a higher priority that needs the whole node."""
    slurm.query("sbatch", "-p", "urgent", "--exclusive", "--mem=1000", "--output=/dev/null", "--wrap", "sleep 1")


def in_partition(space, name: str) -> None:
    """Name a partition as docs/cluster.md says."""
    path = space.folder / "profiles/slurm/config.yaml"
    text = path.read_text(encoding="utf-8")
    assert "  # - slurm_partition=main" in text
    path.write_text(text.replace("  # - slurm_partition=main", f"  - slurm_partition={name}"), encoding="utf-8")


def jobs_of(slurm, rule: str, but: set[str]) -> list[str]:
    """The running jobs of a rule that profiles/slurm has submitted."""
    states, comments = slurm.jobs(), slurm.fields("%k")
    mine = [job for job, text in comments.items() if text.startswith(f"rule_{rule}") and job not in but]
    return [job for job in mine if states.get(job) == "RUNNING"]


def finish(process) -> None:
    output = process.communicate(timeout=LONG)[0]
    assert process.returncode == 0, output


def test_the_study_in_one_allocation(slurm, new_study, local, tmp_path):
    space = new_study(tmp_path)
    job = submit_pilot(space)
    assert ended(slurm, job) == "COMPLETED", log(space, job)
    same(space, local)


def test_the_study_by_one_job_per_rule(slurm, new_study, local, tmp_path):
    space = new_study(tmp_path)
    space.run(*PER_JOB, *FAST)
    same(space, local)


def test_the_wall_time_of_the_allocation_ends_before_the_study(slurm, new_study, local, tmp_path):
    """The state is saved, and the job queues itself again."""
    space = new_study(tmp_path)
    job = submit_pilot(space, training(space))
    when_training(slurm, space)
    end_soon(slurm, job)
    slurm.wait_for(lambda: "queues itself again" in log(space, job))
    slurm.wait_for(lambda: slurm.jobs()[job] == "PENDING")
    slurm.query("scontrol", "update", f"JobId={job}", "TimeLimit=UNLIMITED")
    assert ended(slurm, job) == "COMPLETED", log(space, job)
    went_on(space, local)


def test_the_wall_time_of_a_job_ends_before_its_training(slurm, new_study, local, tmp_path):
    space, before = new_study(tmp_path), set(slurm.jobs())
    process = space.start(*PER_JOB, *FAST, "--", training(space))
    when_training(slurm, space)
    (job,) = jobs_of(slurm, "train_backbone", before)
    end_soon(slurm, job)
    finish(process)
    assert slurm.jobs()[job] == "FAILED", "it ended by itself, with status 75"
    went_on(space, local)


@pytest.mark.parametrize("partition", ["spot", "requeue"])
def test_the_allocation_is_preempted(slurm, new_study, local, tmp_path, partition):
    space = new_study(tmp_path)
    job = submit_pilot(space, training(space), options=("-p", partition))
    when_training(slurm, space)
    preempt(slurm)
    slurm.wait_for(lambda: slurm.jobs()[job] != "RUNNING")
    assert ended(slurm, job) == "COMPLETED", log(space, job)
    went_on(space, local)


def test_a_cancelled_allocation_stays_away_and_its_state_is_saved(slurm, new_study, local, tmp_path):
    space = new_study(tmp_path)
    job = submit_pilot(space, training(space))
    when_training(slurm, space)
    slurm.query("scancel", job)
    slurm.wait_for(lambda: slurm.jobs()[job] == "CANCELLED")
    slurm.wait_for(lambda: "stopped by SIGTERM" in logs(space))
    time.sleep(5)
    assert slurm.jobs()[job] == "CANCELLED"
    space.run("snakemake", "--cores", "2", training(space))
    went_on(space, local)


def test_a_node_that_fails(slurm, new_study, local, tmp_path):
    """Its daemon dies and its processes with it; the allocation is queued again when the node is back."""
    space = new_study(tmp_path)
    job = submit_pilot(space, training(space))
    when_training(slurm, space)
    slurm.stop_daemon("slurmd", signal.SIGKILL)
    slurm.kill_processes_of(job)
    slurm.query("scontrol", "update", "NodeName=localhost", "State=DOWN", "Reason=test")
    slurm.wait_for(lambda: slurm.jobs()[job] == "PENDING")
    slurm.start_node()
    slurm.query("scontrol", "update", "NodeName=localhost", "State=RESUME", check=False)
    assert ended(slurm, job) == "COMPLETED", log(space, job)
    went_on(space, local)


def test_an_outage_of_the_controller(slurm, new_study, local, tmp_path):
    space = new_study(tmp_path)
    process = space.start(*PER_JOB, *FAST, "--", training(space))
    when_training(slurm, space)
    slurm.stop_daemon("slurmctld")
    time.sleep(30)
    slurm.start_controller()
    finish(process)
    assert (space.folder / training(space)).read_bytes() == (local.folder / training(local)).read_bytes()


def test_ten_random_preemptions(slurm, new_study, local, tmp_path):
    """Of one job per rule: trainings by a signal, by scancel and by priority, when they have saved a state; four others
    at any time."""
    space, rng, seen, struck = new_study(tmp_path), random.Random(0), set(slurm.jobs()), []
    in_partition(space, "spot")
    left = {rule: rng.sample(["signal", "scancel", "priority"], 3) for rule in TRAININGS}
    left["other"] = rng.sample(["scancel", "priority"] * 2, 4)
    process = space.start(*PER_JOB, *FAST)
    while any(left.values()) and process.poll() is None:
        for job in jobs_of(slurm, "", seen):
            seen.add(job)
            rule = slurm.fields("%k")[job].removeprefix("rule_").split("_wildcards")[0]
            kinds = left.get(rule, left["other"])
            if not kinds or (rule not in TRAININGS and rule in struck):
                continue
            if rule in TRAININGS:
                last = saved(space, rule)
                slurm.wait_for(lambda: saved(space, rule) > last or slurm.jobs()[job] != "RUNNING", 1800)  # noqa: B023
            else:
                time.sleep(rng.uniform(0, 4))
            if slurm.jobs()[job] == "RUNNING":
                struck.append(rule)
                interrupt(slurm, job, kinds.pop())
        time.sleep(0.2)
    finish(process)
    assert len(struck) == 10, struck
    assert all("going on from step" in logs(space, rule) for rule in TRAININGS)
    same(space, local)


def interrupt(slurm, job: str, kind: str) -> None:
    if kind == "priority":
        preempt(slurm)
    else:
        slurm.query("scancel", *(["--signal=TERM"] if kind == "signal" else []), job)


def test_a_limit_below_a_request_is_an_error(slurm, new_study, tmp_path):
    done = new_study(tmp_path).run(*PER_JOB, "-n", "--resources", "mem_mb=1000", check=False)
    assert done.returncode != 0
    assert "asks for mem_mb=1750, but this run is limited to 1000" in done.stdout + done.stderr


@pytest.mark.parametrize("way", ["pilot", "gpus", "gres", "gpus-per-node"])
def test_two_gpus_and_three_jobs(slurm, new_tiny, tmp_path, way):
    """Each job sees a GPU of its own, and the third waits. Partitions are chosen by profiles/slurm/partitions.yaml."""
    space, before = new_tiny(tmp_path), set(slurm.jobs())
    if way == "pilot":
        targets = on_gpus(space, 3)
        job = submit_pilot(space, *targets, options=("--gpus=2", "-c", "3", "--mem=24G"))
        assert ended(slurm, job) == "COMPLETED", log(space, job)
    else:
        targets = on_gpus(space, 3, gpu_request=way)
        options = ("--slurm-partition-config", "profiles/slurm/partitions.yaml")
        if way == "gpus-per-node":  # the plugin does not see the GPUs that are asked for in this way
            in_partition(space, "gpu")
            options = ()
        space.run(*PER_JOB, *FAST, *options, "--", *targets)
        names, rules = slurm.fields("%P"), slurm.fields("%k")
        chosen = {rules[job].split("_wildcards")[0]: names[job] for job in rules if job not in before}
        assert chosen["rule_train_backbone"] == "gpu"
        assert chosen["rule_prepare_dataset"] == ("gpu" if way == "gpus-per-node" else "short")
    seen = [json.loads(space.read(target)) for target in targets]
    assert {job["gpus"] for job in seen} == {"0", "1"}
    assert shared(seen) == []
