"""prepare_dataset: raw data → one file of images and its manifest."""

from jebm.assets import AssetFiles
from jebm.data.dataset import save_dataset
from jebm.files import read_json
from jebm.plan import MANIFEST
from jebm.progress import say
from jebm.registry import build
from jebm.stages.common import Run


def run(job: Run) -> None:
    files = AssetFiles(job.plan.assets)
    splits, levels, facts = build("dataset", job.variant.params.dataset).prepare(files)
    save_dataset(job.folder, splits, levels, {**facts, "parameters": job.stage.spec["dataset"]})
    counts = read_json(job.folder / MANIFEST)["counts"]
    say(f"{job.folder}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
