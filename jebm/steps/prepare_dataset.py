"""prepare_dataset: convert raw data to one file of images and its manifest."""

import os
import shutil

from jebm.config.components import build
from jebm.data.dataset import save_dataset
from jebm.errors import JebmError
from jebm.io.filenames import MANIFEST
from jebm.io.files import read_json
from jebm.pipeline.assets import VerifiedAssets
from jebm.runtime.progress import log
from jebm.steps.run import StageRun


def run(job: StageRun) -> None:
    files, scratch = VerifiedAssets(job.plan.assets), job.stage.state_folder(None)
    job.folder.mkdir(parents=True, exist_ok=True)
    if not os.access(job.folder, os.W_OK):  # reported before the work starts
        raise JebmError(f"{job.folder}: can't be written to (permission denied, or a read-only disk)")
    # The system's temporary folder may be in memory. A killed run may have left files in this one.
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        splits, levels, facts = build("dataset", job.variant.params.dataset).prepare(files, scratch)
        save_dataset(job.folder, splits, levels, {**facts, "parameters": job.stage.spec["dataset"]}, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    counts = read_json(job.folder / MANIFEST)["counts"]
    log(f"{job.folder}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
