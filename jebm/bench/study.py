"""The benchmark of a study: the workloads of its variants at their real sizes, alternating with a plain
transcription."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from tabulate import tabulate

from jebm.bench.measure import Timing, compare, timed
from jebm.bench.workloads import Workload, prepared
from jebm.config.schema import Base, Compute
from jebm.data.dataset import MANIFEST
from jebm.errors import JebmError, SettingError
from jebm.io.files import atomic_write, read_json, write_csv
from jebm.pipeline.item_shape import item_shape
from jebm.pipeline.study import StudyPlan, Variant
from jebm.runtime.memory import explain_out_of_memory
from jebm.runtime.progress import log

COLUMNS = [
    "study", "variant", "what", "batch", "batch_of_study", "seconds_each", "per_second", "plain_seconds_each",
    "speed_up", "peak_mib", "needed", "hours", "calls", "device", "threads", "precision", "torch",
]  # fmt: skip


class Request(NamedTuple):
    """What ``jebm bench`` is asked to measure."""

    plan: StudyPlan
    variants: dict[str, Variant]
    """The variants to measure, with the overrides applied."""
    seconds: float
    """Time for all measurements together."""
    device: str = ""
    """Device to measure on; that of the study if empty."""
    shape: list[int] | None = None
    """Shape of an image, for data that are not prepared."""
    output: str = ""
    """Name of the files; the default of the kind of measurement if empty."""
    overrides: str = ""
    """The overrides as YAML, for the caption."""

    def path(self, default: str) -> Path:
        """The path of the files without suffix."""
        return self.plan.results / (self.output or default)

    @property
    def caption_end(self) -> str:
        return f", with `{self.overrides}` laid over each variant." if self.overrides else "."


@dataclass(frozen=True)
class MeasuredDevice:
    """The device on which is measured."""

    device: torch.device
    compute: Compute

    @property
    def name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{processor()}, {os.cpu_count()} CPUs, {self.compute.threads} used"

    @property
    def facts(self) -> dict:
        precision = self.compute.precision + (" tf32" if self.compute.tf32 and self.device.type == "cuda" else "")
        threads = self.compute.threads
        return {"device": self.name, "threads": threads, "precision": precision, "torch": torch.__version__}


def processor() -> str:
    """The model of this machine's processor."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def choose_device(compute: Compute, device: str = "") -> MeasuredDevice:
    """The device that is asked for; otherwise that of the study, or the CPU if it is not available.

    Raises:
        JebmError: the device that was asked for can't be used.
    """
    wanted = device or compute.device
    try:
        torch.zeros(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        if device:
            raise JebmError(f"--device: '{device}' can't be used: {str(error).splitlines()[0]}") from None
        log(f"note: this study asks for the device '{wanted}', which is not here; measuring on the CPU")
        wanted = "cpu"
    compute = compute.model_copy(update={"device": wanted})
    torch.set_num_threads(compute.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = compute.tf32
    return MeasuredDevice(torch.device(wanted), compute)


def image_shape(variant: Variant, shape: list[int] | None = None) -> tuple[int, ...]:
    """The shape of one image of a variant's dataset, which need not be prepared.

    Raises:
        SettingError: the shape is given neither by the option, nor by a prepared dataset, nor by the component.
    """
    manifest, block = variant.dataset.folder / MANIFEST, variant.params.dataset
    if shape:
        return tuple(shape)
    if manifest.exists():
        return tuple(read_json(manifest)["image_shape"])
    known = item_shape(block)
    if known is None:
        raise SettingError(
            f"dataset: '{block.name}' does not tell the shape of its images before it is prepared; "
            "name it, for instance --shape 3,32,32"
        )
    return known


def measured_rows(
    name: str,
    params: Base,
    shape: tuple[int, ...],
    place: MeasuredDevice,
    seconds: float,
    seen: set,
    training: bool = False,
) -> Iterator[dict]:
    """Yield a row for each workload of a variant that has not been measured yet, within ``seconds`` altogether.

    Args:
        training: measure only training steps, not chains and samples.
    """
    params = params.model_copy(update={"compute": place.compute})
    with prepared(params, shape, place.device) as bench:
        todo = [work for work in bench.workloads() if _key(params, shape, work) not in seen]
        todo = [work for work in todo if work.training or not training]
        seen |= {_key(params, shape, work) for work in todo}
        for work in todo:
            log(f"{name}: {work.what} …")
            with explain_out_of_memory(f"{name}: {work.what} with a batch of {work.batch}", "lower the batch size"):
                yield {"variant": name, **_measured(work, place, seconds / len(todo))}


def _measured(work: Workload, place: MeasuredDevice, seconds: float) -> dict:
    batch, calls = fit_batch(work, seconds, place.device)
    timings = compare(calls, seconds / 2, place.device)
    ours, plain = timings["ours"], timings.get("plain")
    each = ours.seconds / _each(work, batch)
    # A batch smaller than the study's is extrapolated in proportion.
    whole = each if work.what == "samples" else each * work.batch / batch
    return {
        "what": work.what,
        "batch": batch,
        "batch_of_study": work.batch,
        "seconds_each": each,
        "per_second": 1 / each,
        "plain_seconds_each": plain.seconds / _each(work, batch) if plain else None,
        "speed_up": speed_up(timings),
        "peak_mib": ours.peak,
        "needed": work.needed or None,
        "hours": whole * work.needed / 3600 or None,
        "calls": ours.calls,
        **place.facts,
    }


def _each(work: Workload, batch: int) -> int:
    return batch if work.what == "samples" else work.each


def speed_up(timings: dict[str, Timing]) -> float | None:
    """Time of the plain transcription divided by ours, from the fastest call of each, since other load on the machine
    can only slow a call down."""
    return timings["plain"].fastest / timings["ours"].fastest if "plain" in timings else None


def fit_batch(work: Workload, seconds: float, device: torch.device) -> tuple[int, dict]:
    """The study's batch size, or the part of it that can be measured in the time: it is doubled until a call takes too
    long.

    Workloads that take less than a second are always measured completely.
    """
    batch, limit = min(2, work.batch), max(seconds / 8, 2.0)
    while True:
        calls = work.make(batch)
        used = sum(timed(call, device) for call in calls.values())
        if batch == work.batch or used > limit:
            return batch, calls
        batch = min(2 * batch, work.batch)


def _key(params: Base, shape: tuple[int, ...], work: Workload) -> str:
    """Identity of a measurement; workloads with the same identity are measured once."""
    uses = {
        "stage 1 step": ("train_backbone",),
        "stage 2 step": ("prior", "train_prior"),
        "joint step": ("prior", "train_joint"),
        "samples": ("prior", "draw_samples"),
    }.get(work.what, ("prior", "train_prior", "train_joint"))
    blocks = [getattr(params, key) for key in ("backbone", *uses)]
    return repr((work.what, shape, [block.model_dump() if block else None for block in blocks]))


def run(request: Request) -> Path:
    """Measure the variants, and write the rows into the study's results. Returns the path of the table."""
    rows, seen, path = [], set(), request.path("bench")
    caption = "What a study costs, by `jebm bench`, on synthetic pixels of its real shape" + request.caption_end
    seconds = request.seconds / len(request.variants)
    for label, variant in request.variants.items():
        device, shape = choose_device(variant.params.compute, request.device), image_shape(variant, request.shape)
        for row in measured_rows(label, variant.params, shape, device, seconds, seen):
            rows.append({"study": request.plan.name, **row})
            write(path, rows, caption)  # written after each row, in case the rest is interrupted
    if not rows:
        raise JebmError(f"{path}: there was nothing to measure")
    return path.with_suffix(".md")


def write(path: Path, rows: list[dict], caption: str) -> None:
    """Write the rows as ``.csv`` with all columns, and as a Markdown table."""
    if not rows:
        raise JebmError(f"{path}: there was nothing to measure")
    extra = [key for key in rows[0] if key not in COLUMNS]
    write_csv(path.with_suffix(".csv"), [*extra, *COLUMNS], [{"study": "", **row} for row in rows])
    table = [_cells(row, extra) for row in rows]
    headers = [*extra, "variant", "what", "batch", "ms", "per second", "plain, ms", "speed-up", "peak MiB", "hours"]
    with atomic_write(path.with_suffix(".md")) as file:
        file.write(f"{caption}\n\n{tabulate(table, headers, 'pipe', disable_numparse=True)}\n\n")
        file.writelines(f"- {note}\n" for note in _notes(rows))


def _cells(row: dict, extra: list[str]) -> list[str]:
    part = row["batch"] < row["batch_of_study"]
    batch = f"{row['batch']} of {row['batch_of_study']}" if part else str(row["batch"])

    def number(value: float | None, scale: float = 1.0) -> str:
        return "–" if value is None else f"{value * scale:.3g}" if value * scale < 1000 else f"{value * scale:,.0f}"

    hours = number(row["hours"])
    return [
        *(str(row[key]) for key in extra),
        row["variant"],
        row["what"],
        batch,
        number(row["seconds_each"], 1000),
        number(row["per_second"]),
        number(row["plain_seconds_each"], 1000),
        number(row["speed_up"]),
        f"{row['peak_mib']:,.0f}",
        f"≈ {hours}" if part and row["hours"] else hours,
    ]


def _notes(rows: list[dict]) -> Iterator[str]:
    facts = dict.fromkeys((r["device"], r["threads"], r["precision"], r["torch"]) for r in rows)
    for device, _, precision, version in facts:
        yield f"{device}; {precision}; torch {version}."
    yield "ms: of one step of training, of one step of all chains, or of one sample, a median over calls."
    yield (
        "plain: the same with two calls of autograd per step of the chain while all weights require gradients, and "
        "without an inference network, timed in turn; speed-up by the fastest call of each."
    )
    yield "peak: on a GPU what torch allocated; on the CPU the process, libraries and data included."
    yield "hours: of all such steps, or samples, of one seed; those of the chains are part of those of training."
    if any(row["batch"] < row["batch_of_study"] for row in rows):
        yield "A batch *n of m* is what could be measured in the time given; hours are in proportion (≈): at most that."
