"""train_joint: hierarchy, inference network and energies at once, from random weights or from those of stage 1."""

from pathlib import Path

from torch import nn

from jebm.io.filenames import IMAGES, PRIOR_WEIGHTS, WEIGHTS
from jebm.io.tensors import Weights, read_weights, with_snapshots, write_tensors
from jebm.models.priors.base import build_prior
from jebm.runtime.distributed import ranks
from jebm.steps.common import Run, build_backbone, prepare_compute, publish_training
from jebm.training.ebm import stable_scales
from jebm.training.elbo import validation_bound
from jebm.training.joint import joint_loss
from jebm.training.loop import ParameterGroup, Trainer, run_to_the_end
from jebm.training.state import StateFile


def run(job: Run) -> dict:
    prepare_compute(job)
    params, data, stream = job.variant.params, job.dataset(), job.stream("train")
    settings = params.train_joint
    hierarchy = build_backbone(job, data)
    hierarchy.initialise(stream)
    inputs = [job.variant.dataset.folder / IMAGES, *pretrained(job)]
    for path in pretrained(job):
        hierarchy.load_state_dict(read_weights(path))
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
    title, limit = job.title, settings.largest_gap
    trainer = Trainer(model, loss, settings, count, stream, state, every, title, groups, limit, "energy_gap")
    scales = stable_scales(hierarchy, {"chain": settings.chain, "posterior_chain": settings.posterior_chain})
    diverged = run_to_the_end(trainer, settings.may_diverge)
    if not ranks().leads:
        return {}
    header = {"kind": job.stage.kind, "spec": job.stage.spec, "seed": job.seed, "stage": job.stage.id}
    snapshots = {part: _part(trainer.snapshots, part) for part in model}
    write_tensors(job.folder / PRIOR_WEIGHTS, with_snapshots(prior.state_dict(), snapshots["prior"]), header)
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": trainer.step,
        **trainer.facts,
        **diverged,
        **scales,
        **validation_bound(hierarchy, job.pixels(data, "validation"), job.stream("validation")),
    }
    history = trainer.history or [{"step": trainer.step}]
    publish_training(job, hierarchy.state_dict(), history, facts, snapshots["hierarchy"])
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
