"""Batches of pixels: images are stored as integers, on the device if they fit, and converted to floats per batch."""

from collections.abc import Iterator

import torch

from jebm.data.dataset import to_pixels

MEMORY_FRACTION = 0.4
"""Fraction of the device's free memory that a split may take; the model and its gradients need the rest."""


class Pixels:
    """A split as floats in [−1, 1], converted batch by batch. Where the integers are stored changes no value.

    Args:
        images: uint8 (count, *image_shape), values 0 … levels − 1; memory-mapped ones stay on disk until used.
        levels: number of integer levels of the data.
        device: device of the batches.
        flips: if given, mirror each image from left to right with probability 1/2, by this RNG on ``device``.
        on_device: whether all images are copied to ``device``; None copies them if they fit.
    """

    def __init__(
        self,
        images: torch.Tensor,
        levels: int,
        device: str | torch.device = "cpu",
        flips: torch.Generator | None = None,
        on_device: bool | None = None,
    ):
        self.levels, self.device, self.flips = levels, torch.device(device), flips
        copy = fits_on_device(images, self.device) if on_device is None else on_device
        self.images = images.to(self.device) if copy else images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: torch.Tensor | slice) -> torch.Tensor:
        """Float images (batch, *image_shape) on the device, for integer indices on any device or a slice."""
        if isinstance(index, torch.Tensor):
            index = index.to(self.images.device)
        batch = self.images[index]
        if batch.device != self.device:
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        x = to_pixels(batch, self.levels)
        return x if self.flips is None else random_flip(x, self.flips)


def random_flip(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Images (batch, …, width), each mirrored from left to right with probability 1/2."""
    mirror = torch.rand(len(x), generator=rng, device=x.device) < 0.5
    return torch.where(mirror.reshape(-1, *[1] * (x.dim() - 1)), x.flip(-1), x)


def fits_on_device(images: torch.Tensor, device: torch.device) -> bool:
    """Whether images take at most ``MEMORY_FRACTION`` of a GPU's free memory; False for a CPU."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return images.numel() * images.element_size() <= MEMORY_FRACTION * free


def batches(pixels: Pixels | torch.Tensor, size: int = 1000) -> Iterator[torch.Tensor]:
    """All images in order, in batches of ``size``; the last batch may be smaller."""
    for start in range(0, len(pixels), size):
        yield pixels[start : start + size]
