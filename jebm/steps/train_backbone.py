"""train_backbone: stage 1, the hierarchy and its inference network by the evidence lower bound."""

from jebm.io.filenames import IMAGES
from jebm.runtime.distributed import ranks
from jebm.steps.common import Run, build_backbone, prepare_compute, publish_training, recalibrate_as
from jebm.training.elbo import elbo_loss, validation_bound
from jebm.training.loop import Trainer, carried_by
from jebm.training.state import StateFile


def run(job: Run) -> dict:
    prepare_compute(job)
    params, data, stream = job.variant.params, job.dataset(), job.stream("train")
    settings = params.train_backbone
    hierarchy = build_backbone(job, data)
    hierarchy.initialise(stream)
    pixels = job.pixels(data, "train", stream if settings.horizontal_flips else None)
    loss = elbo_loss(hierarchy, pixels, settings, stream)
    state = StateFile(job.stage.state_folder(job.seed), job.identity(job.variant.dataset.folder / IMAGES))
    count, every, carried = len(pixels), job.checkpoint_seconds, carried_by(loss)
    trainer = Trainer(hierarchy, loss, settings, count, stream, state, every, job.title, carried=carried)
    trainer.run()
    if not ranks().leads:
        return {}
    recalibrated = recalibrate_as(settings.recalibrate, hierarchy, job.stream("recalibrate"))
    bound = validation_bound(hierarchy, job.pixels(data, "validation"), job.stream("validation"))
    facts = {**trainer.facts, **recalibrated, **bound}
    publish_training(job, hierarchy.state_dict(), trainer.history, facts, trainer.snapshots)
    return {"seconds": trainer.seconds}
