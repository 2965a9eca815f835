"""run_evaluation: one of the evaluations that a variant requests."""

from functools import partial

from jebm.config.components import build
from jebm.evaluations.base import Subject
from jebm.io.filenames import ARRAYS, METRICS
from jebm.io.tensors import write_tensors
from jebm.metrics.records import MetricRecord
from jebm.steps.features import load_features
from jebm.steps.models import load_backbone, load_prior, load_snapshots
from jebm.steps.run import StageRun, prepare_compute


def run(job: StageRun) -> None:
    prepare_compute(job)
    data = job.dataset()
    hierarchy = load_backbone(job, data.image_shape)
    prior, space = load_prior(job, hierarchy), load_features(job, data)
    block = job.variant.evaluation_block(job.stage)
    title = f"{job.title} ({block.name})"
    snapshots = partial(load_snapshots, job, data.image_shape)
    subject = Subject(data, hierarchy, prior, space, job.rng, job.device, title, snapshots)
    record = MetricRecord(job.seed)
    arrays = build("evaluation", block).evaluate(subject, record)
    write_tensors(job.folder / ARRAYS, arrays, {"stage": job.stage.id, "seed": job.seed})
    record.save(job.folder / METRICS)
