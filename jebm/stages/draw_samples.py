"""draw_samples: images from one prior by one sampler."""

import torch

from jebm.data.dataset import quantise
from jebm.plan import SAMPLES
from jebm.progress import Progress
from jebm.registry import build
from jebm.sampling.partition import tilts
from jebm.stages.common import Run, load_backbone, load_prior, prepare_compute
from jebm.store import write_tensors


@torch.no_grad()
def run(job: Run) -> None:
    prepare_compute(job)
    data, settings = job.dataset(), job.variant.params.draw_samples
    hierarchy = load_backbone(job, data.image_shape)
    prior = load_prior(job, hierarchy)
    sampler = build("sampler", settings.sampler)
    eps, diagnostics = sampler.draw(
        prior, hierarchy.dimensions, settings.count, job.stream("draw"), Progress(job.title)
    )
    images = decode_images(hierarchy, eps, data.levels)
    tensors = {"images": images, "eps": eps}
    if prior.evaluable:
        tensors["tilt"] = tilts(prior, eps)
    write_tensors(job.folder / SAMPLES, tensors, {"stage": job.stage.id, "seed": job.seed, "diagnostics": diagnostics})


@torch.no_grad()
def decode_images(hierarchy, eps: torch.Tensor, levels: int) -> torch.Tensor:
    """The means of p(x | z) for flat ε, quantised to the data's grey levels, uint8."""
    means = [hierarchy.decode(hierarchy.top_down_flat(batch)).mean for batch in eps.split(hierarchy.rows_at_once())]
    return torch.cat([quantise(mean, levels) for mean in means])
