"""Measures the time and the memory of calls on any device."""

import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

from jebm.runtime.peak_memory import resident_peak

Call = Callable[[], object]
CLEAR = Path("/proc/self/clear_refs")


class Timing(NamedTuple):
    seconds: float
    """Median seconds of a call."""
    fastest: float
    calls: int
    """Number of timed calls, without the warm-up."""
    peak: float
    """MiB: on a GPU the peak of torch's allocations during a call, otherwise the peak resident size of the process."""


def compare(calls: dict[str, Call], seconds: float, device: torch.device) -> dict[str, Timing]:
    """Time several calls alternately, so that other load on the machine affects all of them equally.

    Each is called once to warm up, then at least once, and repeatedly while ``seconds`` last.
    """
    peaks = {name: _peak(call, device) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.monotonic() + seconds
    while True:
        for name, call in calls.items():
            times[name].append(timed(call, device))
        if time.monotonic() >= end:
            break
    return {name: Timing(statistics.median(t), min(t), len(t), peaks[name]) for name, t in times.items()}


def timed(call: Call, device: torch.device) -> float:
    """Seconds of one call, including the work that it queued on the device."""
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(call: Call, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        timed(call, device)
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):
        CLEAR.write_text("5")  # Linux: reset the peak resident size
    timed(call, device)
    return resident_peak()
