"""What a job asks a scheduler for: threads, GPUs, memory and time.

Memory and time come from records of earlier runs, the first of these that exists:

1. runs of the same stage, at any seed;
2. runs of the same rule with the same backbone on the same kind of device, with the time scaled by :func:`work`;
3. the number of training steps, images and values per image: a rough upper estimate.

A job that is tried again asks for more, because it may have failed for lack of memory or time.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from jebm.pipeline.jobs import Job
from jebm.pipeline.stages import DATA, REPORTS, RUNS

REPORT_REQUEST = {"mem_mb": 2000, "runtime": 30}
"""What jobs that write to results/ ask for: MiB and minutes."""
SPARE_TIME, SPARE_MEMORY = 2.0, 1.3
"""Factors on recorded times, since other nodes may be slower, and on recorded peaks."""
START_MINUTES = 5
"""Minutes for what a job does before its work: two processes of Snakemake, and the import of the libraries."""
SNAKEMAKE_MIB = 200
"""MiB of the processes of Snakemake that a job on a cluster runs in."""
LIBRARIES_MIB = {"cpu": 1500, "cuda": 6000}
"""MiB of a process with the libraries loaded, and some tensors; CUDA maps much more."""
FLOATS_PER_PIXEL = 2000
"""Numbers that training on a CPU keeps per value of the images of a batch: activations and gradients."""
SECONDS_PER_WORK = {"cpu": 1e-5, "cuda": 2e-7}
"""Seconds per unit of :func:`work` and value of an image. Measured: 6e-7 for the smallest networks on a CPU core, and
1e-5 for the networks of the image studies."""
STEP = 250
"""MiB to which memory is rounded up."""


@dataclass(frozen=True)
class Request:
    """What one job asks for."""

    threads: int
    gpus: int
    mem_mb: int
    """MiB, which Snakemake and Slurm call MB."""
    minutes: int
    """Of one attempt."""
    whole: int
    """Minutes that the job takes in all, over its attempts."""
    source: str
    """Where memory and time come from: ``recorded``, ``scaled`` or ``shapes``."""

    def at_attempt(self, attempt: int, longest: int) -> "Request":
        """The request of the n-th attempt: half as much again for each attempt before it, at most twice the memory.

        Preemptions count as attempts too, which is why it does not double each time.
        """
        growth = 1 + (attempt - 1) / 2
        memory = _round_up(self.mem_mb * min(growth, 2.0), STEP)
        return replace(self, mem_mb=memory, minutes=min(math.ceil(self.minutes * growth), longest))


@dataclass(frozen=True)
class Run:
    """A recorded run of a job."""

    stage: str
    parameters: dict
    seconds: float
    peak_mib: float | None


def request(job: Job, attempt: int = 1, longest: int = 1440) -> Request:
    """What a job asks for.

    Args:
        attempt: 1 for the first attempt.
        longest: the most minutes that a job asks for.
    """
    seconds, memory, source = _cost(job)
    mem_mb = _round_up(memory * job.devices + SNAKEMAKE_MIB, STEP)
    whole = math.ceil(seconds * SPARE_TIME / 60) + START_MINUTES
    gpus = job.devices if job.device.startswith("cuda") else 0
    first = Request(job.devices * job.threads, gpus, mem_mb, min(whole, longest), whole, source)
    return first.at_attempt(attempt, longest)


def work(parameters: dict, rule: str) -> float:
    """Number of images that networks process, over all steps of training and of chains; 1 if it is not known."""
    blocks = {key: value for key, value in parameters.items() if isinstance(value, dict)}
    named = [blocks[key] for key in (rule, "evaluation") if key in blocks]
    return max(sum(_images(block) * (1 + _inner_steps(block)) for block in named or blocks.values()), 1.0)


def _images(block: dict) -> float:
    if steps := _steps(block):
        return float(steps * (block.get("batch_size") or 1))
    return float(block.get("count") or 0)


def _steps(block: dict) -> int:
    """The steps of a training or a chain; of evaluations that look at a chain several times, the largest number."""
    steps = block.get("steps") or 0
    return max(steps, default=0) if isinstance(steps, list) else steps


def recorded_runs(rule: str) -> list[Run]:
    """All runs of a rule whose results still exist, fresh or not."""
    folder = DATA if rule == "prepare_dataset" else RUNS / rule
    pattern = "*/*.json" if rule in REPORTS else "**/provenance.json"
    found = []
    for path in sorted(folder.glob(pattern)):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            stage = path.relative_to(folder).parts[0]
            found.append(Run(stage, record["parameters"], float(record["seconds"]), record.get("peak_mib")))
        except (OSError, json.JSONDecodeError, KeyError, TypeError):
            continue  # another program's file, or a record of an older format
    return found


_runs = cache(recorded_runs)


def _cost(job: Job) -> tuple[float, float, str]:
    """Seconds, MiB per process, and where they come from."""
    estimate = _from_shapes(job)
    runs = _runs(job.rule)
    own = [run for run in runs if run.stage == job.name.split("/")[0]]
    if own:
        return max(run.seconds for run in own), _recorded_memory(own, estimate[1]), "recorded"
    similar = [run for run in runs if job.rule not in REPORTS and _kind(run.parameters) == _kind(job.parameters)]
    if similar:
        total = work(job.parameters, job.rule)
        seconds = max(run.seconds * max(total / work(run.parameters, job.rule), 1.0) for run in similar)
        return seconds, _recorded_memory(similar, estimate[1]), "scaled"
    return *estimate, "shapes"


def _recorded_memory(runs: Iterable[Run], otherwise: float) -> float:
    peaks = [run.peak_mib for run in runs if run.peak_mib is not None]
    return max(peaks) * SPARE_MEMORY if peaks else otherwise


def _from_shapes(job: Job) -> tuple[float, float]:
    place = "cuda" if job.device.startswith("cuda") else "cpu"
    seconds = work(job.parameters, job.rule) * max(job.pixels, 1) * SECONDS_PER_WORK[place] / job.devices
    blocks = [block for block in job.parameters.values() if isinstance(block, dict)]
    batch = max((block.get("batch_size") or 0 for block in blocks), default=0)
    tensors = batch * job.pixels * FLOATS_PER_PIXEL * 4 / 2**20 if place == "cpu" else 0.0
    return max(seconds, 300.0 + job.pixels / 10), LIBRARIES_MIB[place] + tensors / job.devices


def _kind(parameters: dict) -> tuple:
    """Device, backbone and kind of prior: a job's recorded time is an estimate for another one only if these agree."""
    device = (parameters.get("compute") or {}).get("device", "cpu")
    return parameters.get("backbone"), device.partition(":")[0], (parameters.get("prior") or {}).get("name")


def _inner_steps(block: dict) -> int:
    """The steps of all chains that are configured inside a block."""
    nested = [value for value in block.values() if isinstance(value, dict)]
    return sum(_steps(value) + _inner_steps(value) for value in nested)


def _round_up(value: float, step: int) -> int:
    return math.ceil(value / step) * step
