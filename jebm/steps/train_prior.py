"""train_prior: stage 2, whatever the prior has to learn on the frozen backbone."""

from jebm.config.components import load
from jebm.io.filenames import IMAGES, WEIGHTS
from jebm.models.priors.base import build_prior
from jebm.runtime.distributed import ranks
from jebm.steps.common import Run, load_backbone, prepare_compute, publish_training
from jebm.training.state import StateFile


def run(job: Run) -> dict:
    prepare_compute(job)
    params, data = job.variant.params, job.dataset()
    hierarchy = load_backbone(job, data.image_shape)
    prior = build_prior(params.prior, hierarchy).to(job.device)
    pixels = {split: job.pixels(data, split) for split in ("train", "validation")}
    inputs = job.variant.dataset.folder / IMAGES, job.variant.backbone.run_folder(job.seed) / WEIGHTS
    state = StateFile(job.stage.state_folder(job.seed), job.identity(*inputs))
    fit = load(prior.fit)
    fitted = fit(
        hierarchy,
        prior,
        pixels,
        params.train_prior,
        job.stream("train"),
        state,
        job.checkpoint_seconds,
        job.title,
    )
    if not ranks().is_rank_zero:
        return {}
    publish_training(job, prior.state_dict(), fitted.history, fitted.facts, fitted.snapshots)
    return {key: fitted.facts[key] for key in ("seconds",) if key in fitted.facts}
