"""train_backbone: stage 1, the hierarchy and its inference network by the evidence lower bound."""

from jebm.io.filenames import IMAGES
from jebm.runtime.distributed import ranks
from jebm.steps.common import Run, build_backbone, prepare_compute, recalibrate_as
from jebm.steps.training import publish_training, training_run
from jebm.training.elbo import ElboLoss, validation_bound
from jebm.training.loop import Trainer


def run(job: Run) -> dict:
    prepare_compute(job)
    data, rng, settings = job.dataset(), job.stream("train"), job.variant.params.train_backbone
    hierarchy = build_backbone(job, data)
    hierarchy.initialise(rng)
    pixels = job.pixels(data, "train", rng if settings.horizontal_flips else None)
    loss = ElboLoss(hierarchy, pixels, settings, rng)
    fitted = Trainer(hierarchy, loss, settings, training_run(job, rng, job.variant.dataset.folder / IMAGES)).train()
    if not ranks().is_rank_zero:
        return {}
    recalibrated = recalibrate_as(settings.recalibrate, hierarchy, job.stream("recalibrate"))
    bound = validation_bound(hierarchy, job.pixels(data, "validation"), job.stream("validation"))
    publish_training(job, hierarchy.state_dict(), fitted.with_facts(recalibrated | bound))
    return {"seconds": fitted.facts["seconds"]}
