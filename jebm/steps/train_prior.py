"""train_prior: stage 2, training of the prior on the frozen backbone."""

from jebm.config.components import load
from jebm.io.filenames import IMAGES, WEIGHTS
from jebm.models.priors.base import build_prior
from jebm.runtime.distributed import ranks
from jebm.steps.models import load_backbone
from jebm.steps.run import StageRun, prepare_compute
from jebm.steps.training import save_training, training_run


def run(job: StageRun) -> dict:
    prepare_compute(job)
    params, data = job.variant.params, job.dataset()
    hierarchy = load_backbone(job, data.image_shape)
    prior = build_prior(params.prior, hierarchy).to(job.device)
    pixels = {split: job.pixels(data, split) for split in ("train", "validation")}
    inputs = job.variant.dataset.folder / IMAGES, job.variant.backbone.run_folder(job.seed) / WEIGHTS
    fit = load(prior.fit)
    fitted = fit(prior, pixels, params.train_prior, training_run(job, job.rng("train"), *inputs))
    if not ranks().is_rank_zero:
        return {}
    save_training(job, prior.state_dict(), fitted)
    return {key: fitted.facts[key] for key in ("seconds",) if key in fitted.facts}
