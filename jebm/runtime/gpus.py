"""Assigns the GPUs of this machine to jobs, so that two jobs use the same GPU only where that is asked for.

Each GPU has as many lock files as jobs may share it. A job holds one lock on each of its GPUs until its processes have
ended, however they end, and sees no other GPU. Does not import torch: CUDA reads the variable when it starts.
"""

import fcntl
import os
import re
import tempfile
import time
from pathlib import Path

from jebm.errors import SettingError
from jebm.runtime.progress import log

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICES = Path("/proc/driver/nvidia/gpus")


def assign_gpus(device: str, count: int, jobs_per_gpu: int = 1) -> list[str]:
    """Wait for free GPUs, and let this process and its children see no others. Returns them as CUDA names them.

    Without GPUs, and for ``cuda:<index>``, the environment is left as it is; the indexed GPU is waited for.

    Args:
        device: ``cuda``, or one of the visible GPUs such as ``cuda:1``.
        count: number of GPUs.
        jobs_per_gpu: number of jobs that may share a GPU.

    Raises:
        SettingError: the machine has fewer GPUs.
    """
    seen = visible_gpus()
    if not seen:
        return []  # torch says so, with the parameter that asks for one
    index = device.partition(":")[2]
    candidates = seen[int(index) :][:1] if index else seen
    if len(candidates) < count:
        raise SettingError(
            f"compute.devices: asks for {count} GPUs, but this job is offered {len(candidates)} ({', '.join(seen)})"
        )
    waiting = False
    while not (chosen := _try(candidates, count, jobs_per_gpu)):
        if not waiting:
            log(f"waiting for {count} of the GPUs {', '.join(candidates)}, which other jobs use")
        waiting = True
        time.sleep(1)
    if not index:
        os.environ[VISIBLE] = ",".join(chosen)
    return chosen


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA names them."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip() not in ("", "-1")]
    return [str(index) for index in range(len(list(DEVICES.glob("*"))))]


def _folder() -> Path:
    """The folder of the locks. Slurm gives each of its jobs its own GPUs and may number them from 0 in each."""
    batch = os.environ.get("SLURM_JOB_ID", "machine")
    return Path(tempfile.gettempdir()) / f"jebm-gpus-{os.getuid()}-{batch}"


def _try(candidates: list[str], count: int, jobs_per_gpu: int) -> list[str]:
    """Lock as many GPUs as needed, or none. Those with the fewest jobs come first."""
    folder = _folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    held: dict[str, int] = {}
    with (folder / "assign.lock").open("w") as all_or_nothing:
        fcntl.flock(all_or_nothing, fcntl.LOCK_EX)
        for share in range(jobs_per_gpu):
            for name in candidates:
                if name not in held and len(held) < count:
                    descriptor = _lock(folder / f"{re.sub(r'[^A-Za-z0-9]', '-', name)}.{share}.lock")
                    if descriptor is not None:
                        held[name] = descriptor
    if len(held) < count:
        for descriptor in held.values():
            os.close(descriptor)
        return []
    return list(held)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock until it is closed in this process and in all children, or None."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.set_inheritable(descriptor, True)  # torchrun and its ranks, which this process becomes, go on holding it
    return descriptor
