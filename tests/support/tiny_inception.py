"""A small TorchScript network in the place of the FID Inception network's weights, with the same interface.

Its 2,048 features are quadratic functions of average-pooled pixels; all but the first ``varying`` of them are 0, so
that a covariance needs few images and its square root takes no time.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

NAME = "inception-2015-12-05.pt"


class Layers(nn.Module):
    """What ``InceptionV3W`` calls with pixels scaled to [−1, 1]: 299 × 299, in the real network."""

    def __init__(self, varying: int):
        super().__init__()
        weight = torch.randn(varying, 3 * 4 * 4, generator=torch.Generator().manual_seed(0)) / 7
        self.register_buffer("weight", weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        linear = adaptive_avg_pool2d(x, (4, 4)).flatten(1) @ self.weight.T
        features = linear + linear.square()
        return torch.cat([features, features.new_zeros(len(x), 2048 - features.shape[1])], 1)


class Network(nn.Module):
    """What it calls with pixels in [0, 255] of any size; the real network resizes them itself."""

    def __init__(self, varying: int):
        super().__init__()
        self.layers = Layers(varying)

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return self.layers((img.to(torch.float32) - 128) / 128)


def save_tiny_inception(folder: Path, varying: int = 16) -> Path:
    """Write the network below a folder (``assets/inception`` of a study); returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.jit.script(Network(varying)).save(str(folder / NAME))
    return folder / NAME
