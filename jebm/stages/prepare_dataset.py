"""prepare_dataset: raw data → one file of images and its manifest."""

from jebm.data.dataset import save_dataset
from jebm.progress import say
from jebm.registry import build
from jebm.stages.common import Run


def run(job: Run) -> None:
    tensors, levels, facts = build("dataset", job.variant.params.dataset).prepare()
    save_dataset(job.folder, tensors, levels, {**facts, "parameters": job.stage.spec["dataset"]})
    counts = {name: len(tensor) for name, tensor in tensors.items() if not name.endswith("_labels")}
    say(f"{job.folder}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
