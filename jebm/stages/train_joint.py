"""train_joint: hierarchy, inference network and energies at once, from random weights or from those of stage 1."""

from pathlib import Path

from torch import nn

from jebm.models.priors import build_prior
from jebm.plan import IMAGES, PRIOR_WEIGHTS, WEIGHTS
from jebm.registry import build
from jebm.stages.common import Run, prepare_compute, publish_training
from jebm.store import Weights, read_weights, with_snapshots, write_tensors
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
        hierarchy.load_state_dict(read_weights(path))
    prior = build_prior(params.prior, hierarchy).to(job.device)
    prior.initialise(stream)
    pixels = {split: data.pixels(split).to(job.device) for split in ("train", "validation")}
    loss = joint_loss(prior, pixels["train"], settings, stream)
    state = StateFile(job.stage.state_folder(job.seed), job.identity(*inputs))
    model = nn.ModuleDict({"hierarchy": hierarchy, "prior": prior})
    groups = [
        ParameterGroup(list(hierarchy.parameters()), settings.learning_rate, settings.weight_decay),
        ParameterGroup(list(prior.parameters()), settings.energy_learning_rate, settings.energy_weight_decay),
    ]
    count, every = len(pixels["train"]), job.checkpoint_seconds
    trainer = Trainer(model, loss, settings, count, stream, state, every, job.title, groups)
    trainer.run()
    header = {"kind": job.stage.kind, "spec": job.stage.spec, "seed": job.seed, "stage": job.stage.id}
    snapshots = {part: _part(trainer.snapshots, part) for part in model}
    write_tensors(job.folder / PRIOR_WEIGHTS, with_snapshots(prior.state_dict(), snapshots["prior"]), header)
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(trainer.seconds, 1),
        **validation_bound(hierarchy, pixels["validation"], job.stream("validation")),
    }
    publish_training(job, hierarchy.state_dict(), trainer.history, facts, snapshots["hierarchy"])
    return {"seconds": trainer.seconds}


def _part(snapshots: dict[int, Weights], part: str) -> dict[int, Weights]:
    """Of snapshots of the whole model, those of one of its modules."""
    prefix = f"{part}."
    return {
        step: {name.removeprefix(prefix): tensor for name, tensor in own.items() if name.startswith(prefix)}
        for step, own in snapshots.items()
    }


def pretrained(job: Run) -> list[Path]:
    """The weights of stage 1 that training starts from, if it starts from any."""
    stage = job.variant.pretrained
    return [] if stage is None else [stage.run_folder(job.seed) / WEIGHTS]
