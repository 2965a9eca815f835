"""resample_layers: show what each layer encodes, by redrawing one layer while the noise of the others is fixed."""

import torch

from jebm.io.filenames import ARRAYS, SAMPLES
from jebm.io.tensors import read_tensors, write_tensors
from jebm.steps.draw_samples import decode_images
from jebm.steps.models import load_backbone
from jebm.steps.run import StageRun, prepare_compute

ROWS, REDRAWS = 6, 8


@torch.no_grad()
def run(job: StageRun) -> None:
    """Redraw ε_i ~ N(0, I) for the first samples; lower layers follow through T, higher layers keep their values."""
    prepare_compute(job)
    data = job.dataset()
    hierarchy = load_backbone(job, data.image_shape)
    samples, _ = read_tensors(job.variant.samples.run_folder(job.seed) / SAMPLES)
    eps, rng, arrays = samples["eps"][:ROWS].to(job.device), job.rng("redraw"), {}
    arrays["original"] = decode_images(hierarchy, eps, data.levels)
    for layer, (start, size) in enumerate(_ranges(hierarchy.layer_dims), 1):
        redrawn = eps.repeat_interleave(REDRAWS, 0)
        redrawn[:, start : start + size] = torch.randn(len(redrawn), size, generator=rng, device=rng.device)
        images = decode_images(hierarchy, redrawn, data.levels)
        arrays[f"layer{layer}"] = images.reshape(len(eps), REDRAWS, *images.shape[1:])
    write_tensors(job.folder / ARRAYS, arrays, {"stage": job.stage.id, "seed": job.seed})


def _ranges(sizes: list[int]) -> list[tuple[int, int]]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return list(zip(starts, sizes, strict=True))
