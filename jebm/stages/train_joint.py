"""train_joint: hierarchy, inference network and energies at once, from random weights or from those of stage 1."""

from pathlib import Path

from torch import nn

from jebm.models.priors import build_prior
from jebm.plan import IMAGES, PRIOR_WEIGHTS, WEIGHTS
from jebm.registry import build
from jebm.stages.common import Run, prepare_compute, publish_training
from jebm.store import read_tensors, write_tensors
from jebm.training.elbo import validation_bound
from jebm.training.joint import joint_loss
from jebm.training.loop import ParameterGroup, Trainer
from jebm.training.state import StateFile


def run(job: Run) -> dict:
    prepare_compute(job)
    params, data, stream = job.variant.params, job.dataset(), job.stream("train")
    settings = params.train_joint
    hierarchy = build("backbone", params.backbone, data.image_shape).to(job.device)
    hierarchy.initialise(stream)
    inputs = [job.variant.dataset.folder / IMAGES, *pretrained(job)]
    for path in pretrained(job):
        hierarchy.load_state_dict(read_tensors(path)[0])
    prior = build_prior(params.prior, hierarchy).to(job.device)
    prior.initialise(stream)
    pixels = job.pixels(data, "train", stream if settings.horizontal_flips else None)
    loss = joint_loss(prior, pixels, settings, stream)
    state = StateFile(job.stage.state_folder(job.seed), job.identity(*inputs))
    model = nn.ModuleDict({"hierarchy": hierarchy, "prior": prior})
    groups = [
        ParameterGroup(list(hierarchy.parameters()), settings.learning_rate, settings.weight_decay),
        ParameterGroup(list(prior.parameters()), settings.energy_learning_rate, settings.energy_weight_decay),
    ]
    count, every = len(pixels), job.checkpoint_seconds
    trainer = Trainer(model, loss, settings, count, stream, state, every, job.title, groups)
    trainer.run()
    header = {"kind": job.stage.kind, "spec": job.stage.spec, "seed": job.seed, "stage": job.stage.id}
    write_tensors(job.folder / PRIOR_WEIGHTS, prior.state_dict(), header)
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(trainer.seconds, 1),
        **validation_bound(hierarchy, job.pixels(data, "validation"), job.stream("validation")),
    }
    publish_training(job, hierarchy.state_dict(), trainer.history, facts)
    return {"seconds": trainer.seconds}


def pretrained(job: Run) -> list[Path]:
    """The weights of stage 1 that training starts from, if it starts from any."""
    stage = job.variant.pretrained
    return [] if stage is None else [stage.run_folder(job.seed) / WEIGHTS]
