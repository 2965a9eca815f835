"""A study whose trainings ask for GPUs and note which ones they see, for machines that have none.

Rules, requests, locks and CUDA_VISIBLE_DEVICES are the real ones. What the driver says, and the work, are stand-ins.
"""

from itertools import combinations

DRIVER = "\n\ndef _gpus() -> int | None:\n    return 2\n"
"""Appended to jebm/pipeline/preflight.py of a working copy: a driver that finds two GPUs."""
WORK = '''"""Notes which GPUs this job sees, and from when to when. The first two jobs of three wait for each other."""

import os
import time
from pathlib import Path

from jebm.io.files import write_json


def run(job):
    started, marks = time.time(), Path("logs/started")
    marks.mkdir(exist_ok=True)
    (marks / str(job.seed)).touch()
    while len(list(marks.iterdir())) < min(len(job.plan.seeds), 2):
        time.sleep(0.1)
    time.sleep(2)
    seen = {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""), "started": started, "ended": time.time()}
    for name in ("weights.safetensors", "history.csv", "record.json"):
        write_json(job.folder / name, seen)
    return {}
'''


def on_gpus(space, jobs: int, **runtime) -> list[str]:
    """Let the trainings of a tiny study take one GPU each; their records of what they saw, which are targets."""
    for path, text in (("pipeline/preflight.py", DRIVER), ("steps/train_backbone.py", WORK)):
        with (space.folder / "jebm" / path).open("a" if text is DRIVER else "w", encoding="utf-8") as file:
            file.write(text)
    params = space.params()
    params["runtime"] |= runtime
    params["digits"]["seeds"] = list(range(1, jobs + 1))
    params["digits"]["compute"]["device"] = "cuda"
    space.write_params(params)
    listed = space.run("jebm", "list").stdout
    stage = next(line.split()[1] for line in listed.splitlines() if line.strip().startswith("train_backbone"))
    return [f"{stage}/seed{seed}/record.json" for seed in params["digits"]["seeds"]]


def shared(seen: list[dict]) -> list[tuple[dict, dict]]:
    """The pairs of jobs that used one GPU at the same time."""
    at_a_time = [
        (one, two)
        for one, two in combinations(seen, 2)
        if max(one["started"], two["started"]) < min(one["ended"], two["ended"])
    ]
    return [(one, two) for one, two in at_a_time if {*one["gpus"].split(",")} & {*two["gpus"].split(",")}]
