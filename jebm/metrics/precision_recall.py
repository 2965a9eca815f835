"""Precision and recall of samples from nearest-neighbour estimates of both manifolds (Kynkäänniemi et al., 2019)."""

import numpy as np
import torch

from jebm.errors import JebmError


def precision_recall(
    generated: np.ndarray, real: np.ndarray, neighbours: int = 3, device: str = "cpu", chunk: int = 1000
) -> tuple[float, float]:
    """Precision: the fraction of generated features (count, d) inside the manifold of the real ones. Recall: the
    fraction of real features inside the manifold of the generated ones. Higher is better.

    A manifold is a union of balls around its features, each with the distance to its k-th nearest neighbour as radius.
    Computed in float64, with ``chunk`` rows of the distance matrix at a time.

    Raises:
        JebmError: a set has no more than ``neighbours`` features.
    """
    if min(len(generated), len(real)) <= neighbours:
        raise JebmError(
            f"precision and recall: {len(generated)} samples and {len(real)} real images are too few "
            f"for {neighbours} nearest neighbours"
        )
    on = "cpu" if device == "mps" else device  # MPS has no float64
    centre = real.mean(0, dtype=np.float64)  # distances between centred features are more precise
    sets = [torch.from_numpy(np.asarray(x, np.float64) - centre).to(on) for x in (generated, real)]
    radii = [_radii(x, neighbours, chunk) for x in sets]
    return _covered(sets[0], sets[1], radii[1], chunk), _covered(sets[1], sets[0], radii[0], chunk)


def _radii(x: torch.Tensor, neighbours: int, chunk: int) -> torch.Tensor:
    """Distance of each feature to its k-th nearest neighbour among the others, (count,)."""
    radii = []
    for start in range(0, len(x), chunk):
        distances = torch.cdist(x[start : start + chunk], x)
        rows = torch.arange(len(distances), device=x.device)
        distances[rows, start + rows] = torch.inf  # a feature is not its own neighbour
        radii.append(distances.kthvalue(neighbours, 1).values)
    return torch.cat(radii)


def _covered(x: torch.Tensor, centres: torch.Tensor, radii: torch.Tensor, chunk: int) -> float:
    """The fraction of x inside at least one ball."""
    inside = sum(int((torch.cdist(part, centres) <= radii).any(1).sum()) for part in x.split(chunk))
    return inside / len(x)
