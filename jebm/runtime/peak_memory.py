"""The peak memory of this process. Does not import torch, since not every job needs it."""

import re
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_peak() -> float:
    """MiB: peak resident size of this process, since the last reset where that is possible."""
    if STATUS.exists():
        found = re.search(r"^VmHWM:\s*(\d+) kB", STATUS.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gpu_peak() -> float | None:
    """MiB: peak of the memory that torch has reserved on the current GPU; None if this process has used no GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return torch.cuda.max_memory_reserved() / 2**20
