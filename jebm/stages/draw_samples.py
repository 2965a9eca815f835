"""draw_samples: images from one prior by one sampler."""

import torch

from jebm.data.dataset import quantise
from jebm.plan import SAMPLES
from jebm.progress import Progress
from jebm.registry import build
from jebm.sampling.partition import tilts
from jebm.sampling.samplers import in_batches
from jebm.stages.common import Run, load_backbone, load_prior, prepare_compute
from jebm.store import stream_tensors


@torch.no_grad()
def run(job: Run) -> None:
    """Draw, decode and write a batch at a time: however many images there are, memory holds one batch of them.

    Latents (``eps``, with their ``tilt``) are held until the end; ``keep_latents`` bounds them.
    """
    prepare_compute(job)
    data, settings = job.dataset(), job.variant.params.draw_samples
    hierarchy = load_backbone(job, data.image_shape)
    prior = load_prior(job, hierarchy)
    sampler, progress = build("sampler", settings.sampler), Progress(job.title)
    draws = sampler.stream(prior, hierarchy.dimensions, settings.count, job.stream("draw"), progress)
    wanted = settings.count if settings.keep_latents is None else settings.keep_latents
    kept: list[torch.Tensor] = []
    with stream_tensors(job.folder / SAMPLES) as out:
        for eps in in_batches(draws, settings.batch_size):
            out.append("images", decode_images(hierarchy, eps, data.levels))
            kept.append(eps[: max(wanted - sum(map(len, kept)), 0)].clone())
        latents = torch.cat(kept)
        out.append("eps", latents)
        if prior.evaluable:
            out.append("tilt", tilts(prior, latents))
        out.header = {"stage": job.stage.id, "seed": job.seed, "diagnostics": draws.diagnostics}


@torch.no_grad()
def decode_images(hierarchy, eps: torch.Tensor, levels: int) -> torch.Tensor:
    """The means of p(x | z) for flat ε, quantised to the data's grey levels, uint8."""
    means = [hierarchy.decode(hierarchy.top_down_flat(batch)).mean for batch in eps.split(hierarchy.rows_at_once())]
    return torch.cat([quantise(mean, levels) for mean in means])
