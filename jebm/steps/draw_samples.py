"""draw_samples: sets of images drawn from one prior by one sampler."""

from contextlib import nullcontext
from dataclasses import replace

import torch

from jebm.config.components import build
from jebm.data.dataset import quantise
from jebm.io.filenames import SAMPLES, image_set
from jebm.io.tensors import write_tensors_by_rows
from jebm.pipeline.stages import Stage
from jebm.runtime.distributed import ranks
from jebm.runtime.memory import explain_out_of_memory
from jebm.runtime.progress import Progress
from jebm.sampling.partition import tilts
from jebm.sampling.samplers.base import in_batches
from jebm.steps.models import load_backbone, load_prior
from jebm.steps.recalibration import recalibrate_if_asked
from jebm.steps.run import StageRun, prepare_compute


@torch.no_grad()
def run(job: StageRun) -> None:
    """Draw, decode and write the images batch by batch; memory holds one batch, however many images there are.

    With several ranks, each draws its share of a set with its own random numbers, and rank 0 writes all images. The
    latents of the first set (``eps``, with their ``tilt``) are held in memory until the end; ``saved_latents`` limits
    their number.
    """
    prepare_compute(job)
    data, settings = job.dataset(), job.variant.params.draw_samples
    one_set = _with_one_set(job.stage)
    hierarchy = load_backbone(job, data.image_shape)
    prior = load_prior(job, hierarchy)
    recalibrated = recalibrate_if_asked(settings.recalibrate, hierarchy, job.rng("recalibrate", of=one_set))
    sampler, group = build("sampler", settings.sampler), ranks()
    group.broadcast_(list(hierarchy.buffers()))
    count = len(group.shard_range(settings.count))
    wanted = settings.count if settings.saved_latents is None else settings.saved_latents
    kept, diagnostics = [torch.empty(0, hierarchy.dimensions, device=job.device)], []
    with write_tensors_by_rows(job.folder / SAMPLES) if group.is_rank_zero else nullcontext() as out:
        for number in range(1, settings.sets + 1):
            if group.is_rank_zero:  # remains empty if all chains diverge
                out.append(image_set(number), torch.empty(0, *data.image_shape, dtype=torch.uint8))
            rng = group.seed_rng(job.rng("draw" if number == 1 else f"draw set {number}", of=one_set))
            draws = sampler.chunks(prior, hierarchy.dimensions, count, rng, Progress(job.title))
            batches = (
                (decode_images(hierarchy, eps, data.levels).cpu(), eps.cpu())
                for eps in in_batches(draws, settings.batch_size)
            )
            for images, eps in group.interleave(batches):
                out.append(image_set(number), images)
                if number == 1:
                    kept.append(eps[: max(wanted - sum(map(len, kept)), 0)].to(job.device, copy=True))
            diagnostics += group.gather_object((count, draws.diagnostics)) or []
        if not group.is_rank_zero:
            return
        latents = torch.cat(kept)
        out.append("eps", latents)
        if prior.evaluable:
            out.append("tilt", tilts(prior, latents))
        # Recorded with every metric that is measured on these samples.
        facts = {f"recalibration_{k}": value for facts in recalibrated.values() for k, value in facts.items()}
        out.header = {"stage": job.stage.id, "seed": job.seed, "diagnostics": mean_diagnostics(diagnostics) | facts}


def _with_one_set(stage: Stage) -> Stage:
    """The same stage with one sample set. Its random streams are used, so that a set does not depend on how many there
    are."""
    block = stage.spec["draw_samples"]
    return replace(stage, spec={"draw_samples": {key: value for key, value in block.items() if key != "sets"}})


def mean_diagnostics(parts: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """The diagnostics of all draws from those of several parts, each given as (number of draws, diagnostics)."""
    (_, first), *others = parts
    if not others:
        return first
    total = sum(count for count, _ in parts)
    return {name: sum(count * values[name] for count, values in parts) / total for name in first}


@torch.no_grad()
def decode_images(hierarchy, eps: torch.Tensor, levels: int) -> torch.Tensor:
    """The means of p(x | z) for flat ε, quantised to the grey levels of the data, uint8."""
    advice = "lower draw_samples.batch_size"
    with explain_out_of_memory(f"decoding {len(eps)} images at once", advice):
        return _decode_images(hierarchy, eps, levels)


def _decode_images(hierarchy, eps: torch.Tensor, levels: int) -> torch.Tensor:
    means = [hierarchy.decode(hierarchy.top_down_flat(batch)).mean for batch in eps.split(hierarchy.max_batch_size())]
    return torch.cat([quantise(mean, levels) for mean in means])
