"""train_backbone: stage 1, the hierarchy and its inference network by the evidence lower bound."""

import torch

from jebm.plan import IMAGES
from jebm.registry import build
from jebm.stages.common import Run, prepare_compute, publish_training
from jebm.training.elbo import elbo_loss
from jebm.training.loop import Trainer
from jebm.training.state import StateFile


def run(job: Run) -> dict:
    prepare_compute(job)
    params, data, stream = job.variant.params, job.dataset(), job.stream("train")
    settings = params.train_backbone
    hierarchy = build("backbone", params.backbone, data.image_shape).to(job.device)
    hierarchy.initialise(stream)
    pixels = {split: data.pixels(split).to(job.device) for split in ("train", "validation")}
    loss = elbo_loss(hierarchy, pixels["train"], settings, stream)
    state = StateFile(job.stage.state_folder(job.seed), job.identity(job.variant.dataset.folder / IMAGES))
    trainer = Trainer(hierarchy, loss, settings, len(pixels["train"]), stream, state, job.checkpoint_seconds, job.title)
    trainer.run()
    facts = {"seconds": round(trainer.seconds, 1), **_validation(hierarchy, pixels["validation"], job)}
    publish_training(job, hierarchy.state_dict(), trainer.history, facts)
    return {"seconds": trainer.seconds}


@torch.no_grad()
def _validation(hierarchy, x, job) -> dict:
    """The bound and each layer's KL on the validation split, nats."""
    posterior = hierarchy.eval().infer(x, job.stream("validation"))
    log_px = hierarchy.decode(posterior.top).log_prob(x)
    return {
        "validation_elbo": float((log_px - posterior.kl.sum(1)).mean()),
        "validation_kl": [float(value) for value in posterior.kl.mean(0)],
    }
