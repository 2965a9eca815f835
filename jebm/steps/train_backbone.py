"""train_backbone: stage 1, training of the hierarchy and its inference network by the evidence lower bound."""

from jebm.io.filenames import IMAGES
from jebm.runtime.distributed import ranks
from jebm.steps.models import build_backbone
from jebm.steps.recalibration import recalibrate_if_asked
from jebm.steps.run import StageRun, prepare_compute
from jebm.steps.training import save_training, training_run
from jebm.training.elbo import ElboLoss, validation_bound
from jebm.training.loop import Trainer


def run(job: StageRun) -> dict:
    prepare_compute(job)
    data, rng, settings = job.dataset(), job.rng("train"), job.variant.params.train_backbone
    hierarchy = build_backbone(job, data)
    hierarchy.initialise(rng)
    pixels = job.pixels(data, "train", rng if settings.horizontal_flips else None)
    loss = ElboLoss(hierarchy, pixels, settings, rng)
    fitted = Trainer(hierarchy, loss, settings, training_run(job, rng, job.variant.dataset.folder / IMAGES)).train()
    if not ranks().is_rank_zero:
        return {}
    recalibrated = recalibrate_if_asked(settings.recalibrate, hierarchy, job.rng("recalibrate"))
    bound = validation_bound(hierarchy, job.pixels(data, "validation"), job.rng("validation"))
    save_training(job, hierarchy.state_dict(), fitted.with_facts(recalibrated | bound))
    return {"seconds": fitted.facts["seconds"]}
