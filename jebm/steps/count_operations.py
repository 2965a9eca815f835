"""count_operations: what the training and the sampler of a prior cost, counted and not timed."""

from jebm.config.components import build
from jebm.io.filenames import METRICS
from jebm.metrics.records import MetricRecord
from jebm.steps.models import build_backbone
from jebm.steps.run import StageRun, prepare_compute


def run(job: StageRun) -> None:
    prepare_compute(job)
    data = job.dataset()
    hierarchy = build_backbone(job, data)
    hierarchy.initialise(job.rng("weights"))
    pixels = {split: job.pixels(data, split) for split in ("train", "validation")}
    record = MetricRecord(job.seed)
    evaluation = build("evaluation", job.variant.evaluation_block(job.stage))
    evaluation.count(job.variant.params, hierarchy.requires_grad_(False).eval(), pixels, record, job.device)
    record.save(job.folder / METRICS)
