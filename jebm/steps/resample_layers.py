"""resample_layers: show what each layer encodes, by redrawing one layer while the noise of the others is fixed, and by
walks along single dimensions."""

import torch

from jebm.io.filenames import ARRAYS, SAMPLES
from jebm.io.tensors import read_tensors, write_tensors
from jebm.models.backbones.base import Hierarchy
from jebm.steps.draw_samples import decode_images
from jebm.steps.models import load_backbone
from jebm.steps.run import StageRun, prepare_compute

ROWS, REDRAWS = 6, 8
WALKS, TRIED = 3, 64
"""Number of dimensions of each layer along which is walked, and number of its first dimensions that are tried."""
FAR, PLACES = 2.5, 9
"""Largest ε of a walk, in standard deviations of the prior, and number of its places from −FAR to FAR."""


@torch.no_grad()
def run(job: StageRun) -> None:
    """Redraw ε_i ~ N(0, I) for the first samples; lower layers follow through T, higher layers keep their values. Then
    walk from the first sample."""
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
        arrays[f"walk{layer}"] = _walks(hierarchy, eps[:1], start, size, data.levels)
    write_tensors(job.folder / ARRAYS, arrays, {"stage": job.stage.id, "seed": job.seed})


def _walks(hierarchy: Hierarchy, eps: torch.Tensor, start: int, size: int, levels: int) -> torch.Tensor:
    """Images along those dimensions of a layer that change the image most, (dimensions, places, *image_shape), uint8.

    Args:
        eps: (1, dimensions): the sample through which the walks lead; only one coordinate differs from it.
        start, size: the coordinates of the layer.
    """
    tried = min(size, TRIED)
    ends = eps.repeat(2 * tried, 1).unflatten(0, (tried, 2))
    for number in range(tried):
        ends[number, :, start + number] = torch.tensor([-FAR, FAR])
    low, high = decode_images(hierarchy, ends.flatten(0, 1), levels).unflatten(0, (tried, 2)).float().unbind(1)
    change = (high - low).flatten(1).square().sum(1)
    chosen = change.argsort(descending=True, stable=True)[:WALKS].tolist()
    walks = eps.repeat(len(chosen) * PLACES, 1).unflatten(0, (len(chosen), PLACES))
    for walk, number in zip(walks, chosen, strict=True):
        walk[:, start + number] = torch.linspace(-FAR, FAR, PLACES)
    return decode_images(hierarchy, walks.flatten(0, 1), levels).unflatten(0, (len(chosen), PLACES))


def _ranges(sizes: list[int]) -> list[tuple[int, int]]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return list(zip(starts, sizes, strict=True))
