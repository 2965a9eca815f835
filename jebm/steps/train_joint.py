"""train_joint: joint training of hierarchy, inference network and energies, from random weights or from those of stage
1."""

from pathlib import Path

from torch import nn

from jebm.io.filenames import IMAGES, PRIOR_WEIGHTS, WEIGHTS
from jebm.io.tensors import read_weights, with_snapshots, write_tensors
from jebm.models.priors.base import build_prior
from jebm.runtime.distributed import ranks
from jebm.steps.models import build_backbone
from jebm.steps.run import StageRun, prepare_compute
from jebm.steps.save import weights_header
from jebm.steps.training import save_training, training_run
from jebm.training.ebm import fit_base, stability_facts
from jebm.training.elbo import validation_bound
from jebm.training.finite import Divergence
from jebm.training.joint import LOSSES
from jebm.training.loop import Trainer
from jebm.training.optimisers import joint_groups


def run(job: StageRun) -> dict:
    prepare_compute(job)
    params, data, rng = job.variant.params, job.dataset(), job.rng("train")
    settings = params.train_joint
    hierarchy = build_backbone(job, data)
    hierarchy.initialise(rng)
    for path in pretrained(job):
        hierarchy.load_state_dict(read_weights(path))
    prior = build_prior(params.prior, hierarchy).to(job.device)
    prior.initialise(rng)
    pixels = job.pixels(data, "train", rng if settings.horizontal_flips else None)
    run = training_run(job, rng, job.variant.dataset.folder / IMAGES, *pretrained(job))
    splits = {split: job.pixels(data, split) for split in ("train", "validation")}
    fit_base(prior, splits, params.train_prior, run)  # also for the snapshots
    model = nn.ModuleDict({"hierarchy": hierarchy, "prior": prior})
    trainer = Trainer(
        model,
        LOSSES[settings.method](prior, pixels, settings, rng),
        settings,
        run,
        joint_groups(hierarchy, prior, settings),
        Divergence("energy_gap", settings.max_energy_gap, settings.allow_divergence),
    )
    scales = stability_facts(hierarchy, {"chain": settings.chain, "posterior_chain": settings.posterior_chain})
    fitted = trainer.train()
    fit_base(prior, splits, params.train_prior, run)  # the inference network has changed
    if not ranks().is_rank_zero:
        return {}
    snapshots = fitted.part("prior").snapshots
    write_tensors(job.folder / PRIOR_WEIGHTS, with_snapshots(prior.state_dict(), snapshots), weights_header(job))
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": trainer.state.step,
        **scales,
        **validation_bound(hierarchy, job.pixels(data, "validation"), job.rng("validation")),
    }
    save_training(job, hierarchy.state_dict(), fitted.part("hierarchy").with_facts(facts))
    return {"seconds": fitted.facts["seconds"]}


def pretrained(job: StageRun) -> list[Path]:
    """The files of the stage-1 weights that training starts from, if any."""
    stage = job.variant.pretrained
    return [] if stage is None else [stage.run_folder(job.seed) / WEIGHTS]
